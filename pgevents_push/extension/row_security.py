"""Row-level security: asks PostgreSQL, as the subscriber's role, which rows it may see before and after a change."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pgevents_push.capture import quote, quoted
from pgevents_push.errors import ConnectionLost, Overdue, Refused, RowSecurityError, RowsError
from pgevents_push.event import ChangeEvent, Shape, TableName
from pgevents_push.hub import Pending, Persona
from pgevents_push.listener import Connection, Place, Rows
from pgevents_push.sql import statement

log = logging.getLogger(__name__)

# One statement has so many rows at most: with those of a large transaction it would take long, and hold much.
MOST_ROWS = 500


_PERSONA, _POLICIES, _VISIBLE, _READINGS, _SEES = (
    statement(__package__, f"{name}.sql") for name in ("persona", "policies", "visible", "readings", "sees")
)
_EMPTY_PATH = "SELECT set_config('search_path', 'pg_catalog', true);"


@dataclass(frozen=True)
class _Image:
    """A row of an event: as it is, or as it was."""

    event: ChangeEvent
    is_new: bool

    @property
    def texts(self) -> tuple[str | None, str | None]:
        """The row, and what is put over it."""
        return (self.event.row_json, None if self.is_new else self.event.old_json)


@dataclass(frozen=True)
class _Policy:
    """What row-level security asks of a row.

    :param condition: as SQL.
    :param names: the columns of the table, as in SQL.
    :param has_own_null: for each, whether its type has a null that is not SQL's.
    :param shape: the columns, as they are now: the condition speaks of these.
    """

    condition: str
    names: tuple[str, ...]
    has_own_null: tuple[bool, ...]
    shape: Shape

    def question(self, table: TableName) -> str:
        """Return the statement that asks which rows may be seen."""
        doubted = [name for name, doubt in zip(self.names, self.has_own_null, strict=True) if doubt]
        every = len(doubted) + 1
        parts = {
            "table": quoted(table),
            "alias": quote(table.name),
            "policy": self.condition,
            "unsure": " OR ".join(f"(i.found).{name} IS NULL" for name in doubted),
            "all": str(every),
            "readings": f"ARRAY[{', '.join(map(str, range(every + 1)))}]",
            "row": f"ROW({', '.join(self._fields(doubted, every))})::{quoted(table)}",
        }
        # In one pass: a table may be called "{policy}".
        text = _READINGS if doubted else _VISIBLE
        return re.sub(r"\{([a-z]+)\}", lambda place: parts[place[1]].replace("%", "%%"), text)

    def _fields(self, doubted: list[str], every: int) -> Iterator[str]:
        for name in self.names:
            field = f'("!row").{name}'
            if name in doubted:
                readings = f"{doubted.index(name) + 1}, {every}"
                field = f"CASE WHEN {field} IS NULL AND \"!reading\" IN ({readings}) THEN 'null' ELSE {field} END"
            yield field


class RowSecurity:
    """Judges rows on a connection of its own, by the policies of now.

    Not the row in the table is looked at, which may have changed again or be gone, but the one in the log: what the
    policies ask is put to it. So deletes are judged too, and rows that move out. Everything runs as the persona, in
    one message and so in one transaction, at whose end PostgreSQL takes role and settings back.

    :param connect: opens a connection; its role must be a member of the personas'.
    """

    def __init__(self, connect: Callable[[], Connection]) -> None:
        self._connect = connect
        self._connection: Connection | None = None
        self._told: set[str] = set()

    def verify(self, persona: Persona, table: TableName, columns: Iterable[str]) -> None:
        """Make sure that this persona is one whose rows PostgreSQL restricts, and that it may read these columns.

        :raises RowSecurityError: it is not; says why.
        :raises ConnectionLost: the database is away.
        """
        self._read_policy(persona, table, list(columns))

    def answer(self, pending: Sequence[Pending]) -> None:
        """Judge changes; each persona is asked once for each table. One that cannot be asked gets gaps.

        :raises ConnectionLost: the database is away; those that were not judged are as they were.
        """
        by_question: dict[tuple[TableName, Persona], list[Pending]] = {}
        for one in pending:
            by_question.setdefault((one.sight.event.table_name, one.persona), []).append(one)
        policies: dict[tuple[TableName, str], _Policy] = {}
        for (table, persona), all_of_it in by_question.items():
            for start in range(0, len(all_of_it), MOST_ROWS):
                self._judge(table, persona, all_of_it[start : start + MOST_ROWS], policies)

    def _judge(
        self, table: TableName, persona: Persona, pending: list[Pending], policies: dict[tuple[TableName, str], _Policy]
    ) -> None:
        exposed = pending[0].view.exposed  # a table has one exposure
        try:
            if (table, persona.role) not in policies:
                # The columns again, that are shown: one may have been added since, or the role may have left another.
                columns = None if exposed is None else sorted(exposed)
                policies[table, persona.role] = self._read_policy(persona, table, columns)
            policy = policies[table, persona.role]
            known = {one for one in pending if _is_whole(one, policy.shape)}
            images = list(dict.fromkeys(image for one in pending if one in known for image in _images(one.sight.event)))
            visible, doubtful = self._visible(persona, table, policy, images)
        except RowSecurityError as error:
            self._tell(f"changes of {table} cannot be judged as {persona.role!r}: {error}")
            known, visible, doubtful = set(), set(), set()
        for one in pending:
            event = one.sight.event
            if one not in known or not doubtful.isdisjoint(_images(event)):
                one.give_up("overflow" if event.truncated else "schema")
            else:
                one.judge(_Image(event, is_new=False) in visible, _Image(event, is_new=True) in visible)

    def _read_policy(self, persona: Persona, table: TableName, columns: list[str] | None) -> _Policy:
        """Return what row-level security asks of a row.

        :param columns: those that are shown; None: all that there are.
        :raises RowSecurityError: it asks nothing, or the persona may not read these.
        """
        place = {"schema": table.schema, "name": table.name, "columns": columns}
        rows = self._ask(persona, _EMPTY_PATH + _POLICIES, place, _why)
        if not rows:
            raise RowSecurityError(f"there is no table {table}")
        [(role, virtual, active, readable, permissive, restrictive, names, has_own_null, shape)] = rows
        _check_role(persona, role)
        if virtual:
            raise RowSecurityError(f"{table} has a virtual generated column, whose value the log does not have")
        if not active:
            raise RowSecurityError(
                f"row-level security restricts nothing for {role!r}: ALTER TABLE {table} ENABLE ROW LEVEL SECURITY, "
                "and name a role that neither owns the table nor has BYPASSRLS"
            )
        if not readable:
            raise RowSecurityError(f"{role!r} may not SELECT the columns that {table} shows")
        condition = f"({permissive or 'false'}) AND ({restrictive or 'true'})"
        return _Policy(condition, tuple(names), tuple(has_own_null), shape)

    def _visible(
        self, persona: Persona, table: TableName, policy: _Policy, images: list[_Image]
    ) -> tuple[set[_Image], set[_Image]]:
        """Return what the persona may see, and of what the log does not say enough to know."""
        if not images:
            return set(), set()
        rows, overlays = zip(*(image.texts for image in images), strict=True)
        parameters = {"numbers": list(range(len(images))), "images": list(rows), "overlays": list(overlays)}
        [(role, seen, doubtful)] = self._ask(persona, policy.question(table), parameters, _why_in_a_word)
        _check_role(persona, role)
        return {images[number] for number in seen}, {images[number] for number in doubtful}

    def _ask(
        self, persona: Persona, statement: str, parameters: dict[str, Any], why: Callable[[ConnectionLost], str]
    ) -> Rows:
        """Run a statement as the persona, a second time on a new connection where the first was lost: that it takes too
        long there too is not the network's fault.

        :raises RowSecurityError: PostgreSQL refuses it.
        :raises ConnectionLost: the database is away.
        """
        whole = {**_as_parameters(persona), **parameters}
        for is_last in (False, True):
            connection = self._connection = self._connection or self._connect()
            try:
                return connection.execute(_PERSONA + statement, whole)
            except ConnectionLost as error:
                self.close()
                if isinstance(error, Refused) or (is_last and isinstance(error, Overdue)):
                    raise RowSecurityError(f"PostgreSQL refuses it: {why(error)}") from error
                if is_last:
                    raise
        raise AssertionError("unreachable")

    def _tell(self, text: str) -> None:
        """Each thing once, and not without end."""
        if text not in self._told and len(self._told) < 100:
            self._told.add(text)
            log.error("%s", text)

    def close(self) -> None:
        """Close the connection. Not open: does nothing."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


def _as_parameters(persona: Persona) -> dict[str, Any]:
    names, texts = zip(*persona.settings, strict=True) if persona.settings else ((), ())
    return {"role": persona.role, "names": list(names), "texts": list(texts)}


@contextmanager
def seen_by(persona: Persona | None, execute: Callable[..., Rows], place: Place) -> Iterator[None]:
    """Let a transaction see a table as a persona does, and be itself again afterwards; None: as itself.

    :raises RowsError: row-level security restricts nothing for it, so that it would see all rows.
    """
    if persona is None:
        yield
        return
    execute("SAVEPOINT pgevents_persona")
    [(role, restricted)] = execute(_PERSONA + _SEES, {**_as_parameters(persona), "oid": place.oid})
    if role != persona.role or not restricted:
        raise RowsError(f"Row-level security restricts nothing of {place.name} for {persona.role!r}.")
    yield
    execute("ROLLBACK TO SAVEPOINT pgevents_persona")


def _why(error: ConnectionLost) -> str:
    cause = (str(error.__cause__).splitlines() or [""])[0]
    return f"{cause}. Our own role must be a member of it: GRANT … TO …" if "to set role" in cause else cause


def _why_in_a_word(error: ConnectionLost) -> str:
    """Without the message, which may quote a value of the row."""
    return type(error.__cause__).__name__


def _check_role(persona: Persona, role: str) -> None:
    if role != persona.role:
        raise RowSecurityError(f"the role is {role!r}, not {persona.role!r}")


def _is_whole(pending: Pending, shape: Shape) -> bool:
    """Whether the log has all columns of the row, as they are now: a policy may read any of them, and would take one
    for null, or for another one that had its name."""
    row = pending.sight.new if pending.sight.new is not None else pending.sight.old
    mark = pending.view.mark
    return mark is not None and mark.fits(shape) and row is not None and row.keys() >= shape.keys()


def _images(event: ChangeEvent) -> list[_Image]:
    if event.type == "update":
        return [_Image(event, is_new=False), _Image(event, is_new=True)]
    return [_Image(event, is_new=event.type == "insert")]
