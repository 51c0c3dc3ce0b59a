"""Declarations: what an app wants to hear of and to show, collected before and after registration."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from pgevents_push.capture import MODES, Mode, Target, resolve
from pgevents_push.errors import ConfigurationError, ExposureError
from pgevents_push.event import CHANGE_TYPES, ChangeType, TableName
from pgevents_push.handlers import Function, Handler, When
from pgevents_push.registrar import ChangeTarget
from pgevents_push.transports.entrance import Identify
from pgevents_push.transports.fragments import Fragment, Position
from pgevents_push.transports.gate import Exposure, visible_columns
from pgevents_push.transports.rights import Authorize, Impersonate

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class _Handle:
    function: Function
    target: object
    types: frozenset[ChangeType]
    columns: frozenset[str] | None
    when: When | None
    capture: Mode | None


@dataclass(frozen=True, eq=False)
class _Expose:
    target: object
    columns: Iterable[str] | None
    exclude: Iterable[str] | None
    authorize: Authorize | None
    rls: Impersonate | None
    capture: Mode | None


@dataclass(frozen=True, eq=False)
class _Fragment:
    source: object
    template: str
    target: str
    position: Position
    dom_id: str | None
    per_identity: bool


class Declarations:
    """What was declared on one PGEvents, as written; and resolved for an app, whose default schema counts.

    :param on_change: called after each declaration, so that a running listener takes notice.
    """

    def __init__(self, on_change: Callable[[], None]) -> None:
        self._on_change = on_change
        self._handles: list[_Handle] = []
        self._exposes: list[_Expose] = []
        self._fragments: list[_Fragment] = []
        self._captures: list[object] = []
        self._targets: dict[object, ChangeTarget] = {}
        self.identify: Identify | None = None

    def _declare(self, declared: list[T], new: T) -> None:
        """Keep it, unless it disagrees with another, or is wrong for an app that is registered already."""
        declared.append(new)
        try:
            self.modes("public")
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
        capture: Mode | None = None,
    ) -> None:
        """Declare a handler.

        :raises ConfigurationError: the target is no table, a column is not one of its, an argument is of the
            wrong kind, or the table is captured in another way.
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
        _check_mode(capture, f"A handler of {resolved.name}")
        self._declare(self._handles, _Handle(function, target, kinds, wanted, when, capture))

    def expose(
        self,
        target: object,
        columns: Iterable[str] | None,
        exclude: Iterable[str] | None,
        public: bool,
        authorize: Authorize | None,
        rls: Impersonate | None = None,
        capture: Mode | None = None,
    ) -> None:
        """Declare what browsers may stream.

        :raises ExposureError: neither `public` nor `authorize` nor `rls`, `public` with one of these, a wrong column,
            or exposed already.
        :raises ConfigurationError: the table is captured in another way.
        """
        name = resolve(target).name
        if public is (authorize is not None or rls is not None):
            both = ", not both" if public else ""
            raise ExposureError(
                f"expose({name}): give authorize=… or rls=… (who may stream it) or public=True (everybody may){both}."
            )
        if name.schema == "pgevents":
            raise ExposureError(f"expose({name}): the log itself is never exposed.")
        if any(resolve(other.target).name == name for other in self._exposes):
            raise ExposureError(
                f"expose({name}): it is exposed already. Do it once, where the model is, not in create_app()."
            )
        if authorize is not None:
            _check_function(authorize, f"expose({name}): authorize=", ExposureError)
        if rls is not None:
            _check_function(rls, f"expose({name}): rls=", ExposureError)
        _check_mode(capture, f"expose({name})")
        declared = _Expose(target, _kept(columns), _kept(exclude), authorize, rls, capture)
        _exposure(declared, "public", "row")
        self._declare(self._exposes, declared)

    def identify_with(self, function: Identify) -> None:
        """Declare who knows a caller's name.

        :raises ConfigurationError: somebody does already, or it is no function without arguments.
        """
        if self.identify is not None and self.identify is not function:
            raise ConfigurationError("identify() is declared already. Do it once, not in create_app().")
        _check_function(function, "identify()", arguments=())
        self.identify = function

    def fragment(
        self, source: object, template: str, target: str, position: Position, dom_id: str | None, per_identity: bool
    ) -> None:
        """Declare how a table's rows become elements of a page.

        :raises ExposureError: a wrong argument, or the table has a fragment already.
        """
        declared = _Fragment(source, template, target, position, dom_id, per_identity)
        name = _fragment(declared, "public").table
        if any(resolve(other.source).name == name for other in self._fragments):
            raise ExposureError(f"fragment({name}): it has one already.")
        self._declare(self._fragments, declared)

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
        modes = self.modes(default_schema)
        return [_exposure(e, default_schema, modes[resolve(e.target, default_schema).name]) for e in self._exposes]

    def fragments(self, default_schema: str) -> list[Fragment]:
        return [_fragment(declared, default_schema) for declared in self._fragments]

    def targets(self, default_schema: str) -> list[Target]:
        """Every table that is to be captured, once."""
        declared = itertools.chain(
            (h.target for h in self._handles), (e.target for e in self._exposes), self._captures, self._targets
        )
        return list({t.name: t for t in (resolve(d, default_schema) for d in declared)}.values())

    def modes(self, default_schema: str) -> dict[TableName, Mode]:
        """How each table is to be captured.

        :raises ConfigurationError: two declarations disagree.
        :raises ExposureError: what is declared needs more than a key.
        """
        found: dict[TableName, Mode] = {}
        said = [(each.target, each.capture) for each in self._handles] + [(e.target, e.capture) for e in self._exposes]
        for target, mode in said:
            name = resolve(target, default_schema).name
            if mode is not None and found.setdefault(name, mode) != mode:
                both = f'capture="{found[name]}" and capture="{mode}"'
                raise ConfigurationError(f"{name} is declared with {both}: there is one log. Say it once.")
        self._check_keys({name for name, mode in found.items() if mode == "key"}, default_schema)
        return {target.name: found.get(target.name, "row") for target in self.targets(default_schema)}

    def _check_keys(self, key_only: set[TableName], default_schema: str) -> None:
        """Refuse what needs more of these tables than their keys.

        :raises ConfigurationError: names it.
        """
        for handle in self._handles:
            target = resolve(handle.target, default_schema)
            if target.name in key_only and handle.columns and handle.columns - set(target.key or ()):
                raise ConfigurationError(f"A handler of {target.name} has columns=, but {_KEY_ONLY}")
        for exposed in self._exposes:
            target = resolve(exposed.target, default_schema)
            if target.name not in key_only:
                continue
            if exposed.rls is not None:
                raise ExposureError(f"expose({target.name}) has rls=, but {_KEY_ONLY}")
            if exposed.columns not in (None, "*") and target.key and set(exposed.columns or ()) - set(target.key):
                raise ExposureError(f"expose({target.name}) has columns=, but {_KEY_ONLY}")
        for fragment in self._fragments:
            if (name := resolve(fragment.source, default_schema).name) in key_only:
                raise ExposureError(f"fragment({name}) shows rows, but {_KEY_ONLY}")


_KEY_ONLY = 'the table is declared with capture="key": nothing but its primary key is there.'


def _check_function(
    function: object,
    what: str,
    error: type[ConfigurationError] = ConfigurationError,
    arguments: tuple[object, ...] = (None,),
) -> None:
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
        inspect.signature(function, follow_wrapped=False).bind(*arguments)
    except TypeError:
        number = "one argument" if arguments else "no argument"
        raise error(f"{what} takes a function of {number}, which {name} is not.") from None
    except ValueError:
        pass  # written in C, without a signature


def _kept(names: Iterable[str] | None) -> Iterable[str] | None:
    """An iterator can be read once, but each app resolves the declarations for itself."""
    return names if names is None or isinstance(names, str) else tuple(names)


def _exposure(declared: _Expose, default_schema: str, mode: Mode) -> Exposure:
    target = resolve(declared.target, default_schema)
    columns: Any = visible_columns(target.name, target.columns, declared.columns, declared.exclude)
    return Exposure(target.name, columns, declared.authorize, declared.rls, key_only=mode == "key")


def _check_mode(capture: object, what: str) -> None:
    if capture is not None and capture not in MODES:
        raise ConfigurationError(f"{what}: capture= takes one of {', '.join(map(repr, MODES))}, not {capture!r}.")


def _fragment(declared: _Fragment, default_schema: str) -> Fragment:
    table = resolve(declared.source, default_schema).name
    where = (declared.target, declared.position, declared.dom_id)
    return Fragment(table, declared.template, *where, declared.per_identity)
