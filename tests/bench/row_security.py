"""What row-level security costs: one change, judged for each of N personas with a simple and with a membership policy.

It runs beside the listener; the figure is how much later a change reaches those who depend on it, and how many
personas one process can serve: the sum of all of them for each batch of changes.
"""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Sequence

from demo.postgres import Postgres
from pgevents_push.cursor import Snapshot
from pgevents_push.event import CHANGE_TYPES, ChangeEvent, TableName
from pgevents_push.extension.row_security import RowSecurity
from pgevents_push.hub import Definition, Pending, Persona, Sight, View
from pgevents_push.hub.columns import read_columns
from pgevents_push.listener import Connection, read_shape, read_xmax
from pgevents_push.transports.sse_format import encode_json
from tests.bench.printing import Row
from tests.fixtures.postgres import Database, Server

SIZES = (1, 10, 100, 1000)
ROUNDS = 10
NOTES = TableName("public", "notes")
SCHEMA = """
CREATE ROLE web_user;
CREATE TABLE members (team int, person int, PRIMARY KEY (team, person));
INSERT INTO members SELECT n % 100, n FROM generate_series(0, 9999) AS n;
CREATE TABLE notes (id int PRIMARY KEY, owner int, team int, body text);
ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
GRANT SELECT ON notes, members TO web_user;
ANALYZE;
"""
POLICIES = {
    "owner = setting": "owner = current_setting('app.person')::int",
    "membership": """
        EXISTS (SELECT FROM members m WHERE m.team = notes.team AND m.person = current_setting('app.person')::int)
    """,
}


def measure() -> list[Row]:
    with Postgres(settings={"fsync": "off"}) as postgres:
        server = Server({"host": str(postgres.socket_dir), "user": "postgres", "dbname": "postgres"}, postgres)
        database = Database(server, "postgres")
        database.execute(SCHEMA)
        try:
            return [row for name, policy in POLICIES.items() for row in _rows(database, name, policy)]
        finally:
            database.close()


def _rows(database: Database, name: str, policy: str) -> list[Row]:
    database.execute("DROP POLICY IF EXISTS p ON notes")
    database.execute(f"CREATE POLICY p ON notes FOR SELECT TO web_user USING ({policy})")
    connection = Connection(database.dsn, 10)
    security = RowSecurity(lambda: connection)
    execute = connection.execute
    shape = read_shape(execute, NOTES)
    definition = Definition(read_columns(execute, NOTES), shape, Snapshot(1, 1), read_xmax(execute))
    seconds = {size: [_judge(security, definition, size) for _ in range(ROUNDS)] for size in SIZES}
    connection.close()
    return [
        Row(
            f"row-level security, {name}, {size} personas",
            _value(seconds[size], size),
            "",
            "one change, one connection",
        )
        for size in SIZES
    ]


def _value(seconds: Sequence[float], size: int) -> str:
    middle = statistics.median(seconds)
    return f"{middle * 1000:.1f} ms, {middle / size * 1e6:.0f} us each"


def _judge(security: RowSecurity, definition: Definition, size: int) -> float:
    event = ChangeEvent(
        id="1", type="update", schema="public", table="notes", tx="700", last=True, at_text="", cursor="c",
        pk_json='{"id": 1}', row_json='{"id": 1, "owner": 7, "team": 7, "body": "something"}',
        old_json='{"body": "old"}', changed_json='["body"]',
    )  # fmt: skip
    sight, mark = Sight(event, Counter()), definition.mark(None)
    personas = [Persona("web_user", (("app.person", str(n)),)) for n in range(size)]
    views = [
        View(NOTES, frozenset(CHANGE_TYPES), None, None, encode_json, mark=mark, persona=persona)
        for persona in personas
    ]
    pending = [Pending(sight, view, persona) for view, persona in zip(views, personas, strict=True)]
    began = time.perf_counter()
    security.answer(pending)
    taken = time.perf_counter() - began
    assert size < 10 or sum(one.frame is not None for one in pending) >= 1
    return taken


if __name__ == "__main__":
    for row in measure():
        print(row.what, row.value, sep="  ")
