"""Declarations: what an app wants to hear of and to show, collected before and after registration."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from pgevents_push.capture import Target, resolve
from pgevents_push.errors import ConfigurationError, ExposureError
from pgevents_push.event import CHANGE_TYPES, ChangeType
from pgevents_push.handlers import Function, Handler, When
from pgevents_push.registrar import ChangeTarget
from pgevents_push.transports.gate import Authorize, Exposure, visible_columns

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class _Handle:
    function: Function
    target: object
    types: frozenset[ChangeType]
    columns: frozenset[str] | None
    when: When | None


@dataclass(frozen=True, eq=False)
class _Expose:
    target: object
    columns: Iterable[str] | None
    exclude: Iterable[str] | None
    authorize: Authorize | None


class Declarations:
    """What was declared on one PGEvents, as written; and resolved for an app, whose default schema counts.

    :param on_change: called after each declaration, so that a running listener takes notice.
    """

    def __init__(self, on_change: Callable[[], None]) -> None:
        self._on_change = on_change
        self._handles: list[_Handle] = []
        self._exposes: list[_Expose] = []
        self._captures: list[object] = []
        self._targets: dict[object, ChangeTarget] = {}

    def _declare(self, declared: list[T], new: T) -> None:
        """Keep it, unless it is wrong for an app that is registered already."""
        declared.append(new)
        try:
            self._on_change()
        except ConfigurationError:
            declared.remove(new)
            raise

    def handle(
        self,
        function: Function,
        target: object,
        types: Iterable[ChangeType],
        columns: Sequence[str] | None,
        when: When | None,
    ) -> None:
        """Declare a handler.

        :raises ConfigurationError: the target is no table, a column is not one of its, or an argument is of the
            wrong kind.
        """
        resolved = resolve(target)
        if columns is not None and (isinstance(columns, str) or not all(isinstance(name, str) for name in columns)):
            raise ConfigurationError(f'columns= takes a list of names: ["status"], not {columns!r}.')
        kinds = frozenset(types)
        if not kinds or kinds - set(CHANGE_TYPES):
            raise ConfigurationError(f"types= takes some of {', '.join(CHANGE_TYPES)}, not {types!r}.")
        wanted = None if columns is None else frozenset(columns)
        if wanted and resolved.columns is not None and (unknown := wanted - set(resolved.columns)):
            known = ", ".join(resolved.columns)
            raise ConfigurationError(f"{resolved.name} has no column {', '.join(sorted(unknown))}. It has: {known}.")
        _check_function(function, f"A handler of {resolved.name}")
        if when is not None:
            _check_function(when, f"when= of a handler of {resolved.name}")
        self._declare(self._handles, _Handle(function, target, kinds, wanted, when))

    def expose(
        self,
        target: object,
        columns: Iterable[str] | None,
        exclude: Iterable[str] | None,
        public: bool,
        authorize: Authorize | None,
    ) -> None:
        """Declare what browsers may stream.

        :raises ExposureError: neither `public` nor `authorize`, both, a wrong column, or exposed already.
        """
        name = resolve(target).name
        if public is (authorize is not None):
            both = ", not both" if public else ""
            raise ExposureError(
                f"expose({name}): give authorize=… (who may stream it) or public=True (everybody may){both}."
            )
        if name.schema == "pgevents":
            raise ExposureError(f"expose({name}): the log itself is never exposed.")
        if any(resolve(other.target).name == name for other in self._exposes):
            raise ExposureError(
                f"expose({name}): it is exposed already. Do it once, where the model is, not in create_app()."
            )
        if authorize is not None:
            _check_function(authorize, f"expose({name}): authorize=", ExposureError)
        declared = _Expose(target, _kept(columns), _kept(exclude), authorize)
        _exposure(declared, "public")
        self._declare(self._exposes, declared)

    def capture(self, target: object) -> None:
        """Declare a table that is captured although no handler of this class wants it."""
        resolve(target)
        self._declare(self._captures, target)

    def target(self, target: object) -> ChangeTarget:
        """Return the object that SQLAlchemy's event functions take for a table; always the same one."""
        resolve(target)
        if target not in self._targets:
            self._targets[target] = ChangeTarget(target)
            try:
                self._on_change()
            except ConfigurationError:
                del self._targets[target]
                raise
        return self._targets[target]

    def decorated(self, default_schema: str) -> list[Handler]:
        """The handlers that were declared here."""
        return [
            Handler(h.function, resolve(h.target, default_schema), h.types, h.columns, h.when) for h in self._handles
        ]

    def registered(self, default_schema: str) -> list[Handler]:
        """The handlers that SQLAlchemy's registrar holds at this moment."""
        return [
            Handler(function, resolve(declared, default_schema), frozenset({type_}))
            for declared, target in tuple(self._targets.items())
            for type_ in CHANGE_TYPES
            for function in target.functions(type_)
        ]

    def exposures(self, default_schema: str) -> list[Exposure]:
        return [_exposure(declared, default_schema) for declared in self._exposes]

    def targets(self, default_schema: str) -> list[Target]:
        """Every table that is to be captured, once."""
        declared = itertools.chain(
            (h.target for h in self._handles), (e.target for e in self._exposes), self._captures, self._targets
        )
        return list({t.name: t for t in (resolve(d, default_schema) for d in declared)}.values())


def _check_function(function: object, what: str, error: type[ConfigurationError] = ConfigurationError) -> None:
    """Refuse now what would fail, or silently do nothing, at each change."""
    if not callable(function):
        raise error(f"{what} takes a function, not {function!r}.")
    name = getattr(function, "__qualname__", repr(function))
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise error(f"{what} takes a plain def: {name} is async, and nobody would await it.")
    if inspect.isgeneratorfunction(function):
        raise error(f"{what} takes a plain def: {name} has a yield, so that a call would not run it.")
    try:
        # Not what a decorator says that it wraps: it may fill in more arguments.
        inspect.signature(function, follow_wrapped=False).bind(None)
    except TypeError:
        raise error(f"{what} takes a function of one argument, which {name} is not.") from None
    except ValueError:
        pass  # written in C, without a signature


def _kept(names: Iterable[str] | None) -> Iterable[str] | None:
    """An iterator can be read once, but each app resolves the declarations for itself."""
    return names if names is None or isinstance(names, str) else tuple(names)


def _exposure(declared: _Expose, default_schema: str) -> Exposure:
    target = resolve(declared.target, default_schema)
    columns: Any = visible_columns(target.name, target.columns, declared.columns, declared.exclude)
    return Exposure(target.name, columns, declared.authorize)
