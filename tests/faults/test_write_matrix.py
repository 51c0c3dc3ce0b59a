"""Write matrix: every way in which SQL changes rows, on the oldest and the newest PostgreSQL.

The oracle is SQL itself: what the log says, played upon the rows of before, must be the rows of after. What cannot
be so is written down beside the case, as in the README's table of limits.
"""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from pgevents_push.capture import Mode
from tests.fixtures.capture import Logged, install, logged
from tests.fixtures.postgres import Database, fresh_database
from tests.fixtures.twins import MODES
from tests.fixtures.versions import VERSIONS, ServerOf

T = "CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t VALUES (1, 1), (2, 2), (3, 3)"
PARTS = """
CREATE TABLE t (id int, region text, n int, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
CREATE TABLE t_eu PARTITION OF t FOR VALUES IN ('eu');
CREATE TABLE t_us PARTITION OF t FOR VALUES IN ('us') PARTITION BY RANGE (id);
CREATE TABLE t_us_low PARTITION OF t_us FOR VALUES FROM (0) TO (100);
INSERT INTO t VALUES (1, 'eu', 1), (2, 'us', 2)
"""
FAMILY = """
CREATE TABLE t (id int PRIMARY KEY, n int);
CREATE TABLE child (id int PRIMARY KEY, t int DEFAULT 9 REFERENCES t {action});
INSERT INTO t VALUES (1, 1), (2, 2), (9, 9); INSERT INTO child VALUES (10, 1), (11, 1), (12, 2)
"""


@dataclass(frozen=True)
class Case:
    """:param events: "type key" of each, in order; a key of several columns is joined by "/".
    :param tables: that are captured.
    :param unlike: rows of which the log knows nothing, as the README says: these are left out of the comparison.
    :param since: the first major version that has this.
    """

    schema: str
    statements: Sequence[str]
    events: str
    tables: tuple[str, ...] = ("t",)
    unlike: str = ""
    since: int = 0


CASES = {
    "insert ... select, update ... from, delete ... using": Case(
        T,
        [
            "INSERT INTO t SELECT id + 10, n FROM t WHERE id < 3",
            "UPDATE t SET n = s.n + 1 FROM t AS s WHERE t.id = s.id + 10",
            "DELETE FROM t USING t AS s WHERE t.id = s.id + 10 AND s.id = 1",
        ],
        "i 11, i 12, u 11, u 12, d 11",
    ),
    "a WITH that deletes and inserts": Case(
        T,
        ["WITH gone AS (DELETE FROM t WHERE id = 1 RETURNING *) INSERT INTO t SELECT id + 9, n FROM gone"],
        "d 1, i 10",
    ),
    "copy": Case(T, ["COPY t FROM STDIN\n10\t1\n11\t\\N\n", "BEGIN; COMMIT"], "i 10, i 11"),
    "truncate": Case(T, ["TRUNCATE t RESTART IDENTITY", "INSERT INTO t VALUES (1, 7)"], "t , i 1"),
    "truncate that is rolled back": Case(T, ["BEGIN; TRUNCATE t; INSERT INTO t VALUES (1, 1); ROLLBACK"], ""),
    "truncate behind changes of the same transaction": Case(
        T, ["BEGIN; UPDATE t SET n = 0 WHERE id = 1; TRUNCATE t; INSERT INTO t VALUES (5, 5); COMMIT"], "u 1, t , i 5"
    ),
    "truncate that cascades": Case(FAMILY.format(action=""), ["TRUNCATE t CASCADE"], "t , t ", ("t", "child")),
    "truncate of a partitioned table": Case(PARTS, ["TRUNCATE t"], "t "),
    "truncate of one partition: unknown": Case(PARTS, ["TRUNCATE t_eu"], "", unlike="region = 'eu'"),
    "on conflict": Case(
        T,
        [
            "INSERT INTO t VALUES (1, 9), (4, 4) ON CONFLICT (id) DO UPDATE SET n = excluded.n",
            "INSERT INTO t VALUES (1, 0), (5, 5) ON CONFLICT DO NOTHING",
            "INSERT INTO t VALUES (1, 0) ON CONFLICT (id) DO UPDATE SET n = 0 WHERE t.n > 100",
        ],
        "u 1, i 4, i 5",
    ),
    "merge": Case(
        T,
        [
            "MERGE INTO t USING (VALUES (1), (2), (3), (4)) AS s (id) ON t.id = s.id"
            " WHEN MATCHED AND t.id = 1 THEN DELETE WHEN MATCHED AND t.id = 2 THEN DO NOTHING"
            " WHEN MATCHED THEN UPDATE SET n = 7 WHEN NOT MATCHED THEN INSERT VALUES (s.id, 0)"
        ],
        "d 1, u 3, i 4",
    ),
    "merge, what the source has not": Case(
        T,
        ["MERGE INTO t USING (VALUES (1)) AS s (id) ON t.id = s.id WHEN NOT MATCHED BY SOURCE AND t.id = 2 THEN DELETE"
         " WHEN NOT MATCHED BY SOURCE THEN UPDATE SET n = 0 RETURNING t.id"],
        "d 2, u 3",
        since=17,
    ),
    "returning old and new": Case(T, ["UPDATE t SET n = n + 1 WHERE id = 1 RETURNING old.n, new.n"], "u 1", since=18),
    "a row that moves to another partition": Case(
        PARTS,
        ["UPDATE t SET region = 'us' WHERE id = 1", "UPDATE t SET n = 0 WHERE region = 'us'"],
        "d 1/eu, i 1/us, u 2/us, u 1/us",
    ),
    "writes to leaves": Case(
        PARTS,
        ["INSERT INTO t_eu VALUES (5, 'eu', 5)", "UPDATE t_us_low SET n = 0", "DELETE FROM t_us",
         "COPY t_eu FROM STDIN\n6\teu\t6\n"],
        "i 5/eu, u 2/us, d 2/us, i 6/eu",
    ),
    "merge and upsert in partitions": Case(
        PARTS,
        [
            "INSERT INTO t VALUES (1, 'eu', 5), (3, 'us', 3) ON CONFLICT (id, region) DO UPDATE SET n = excluded.n",
            "MERGE INTO t USING (VALUES (1), (2)) AS s (id) ON t.id = s.id"
            " WHEN MATCHED AND region = 'eu' THEN UPDATE SET region = 'us' WHEN MATCHED THEN DELETE",
        ],
        "u 1/eu, i 3/us, d 1/eu, i 1/us, d 2/us",
    ),
    "a partition that is made later": Case(
        PARTS, ["CREATE TABLE t_as PARTITION OF t FOR VALUES IN ('as')", "INSERT INTO t VALUES (8, 'as', 8)"], "i 8/as"
    ),
    "on delete cascade": Case(
        FAMILY.format(action="ON DELETE CASCADE"), ["DELETE FROM t WHERE id = 1"], "d 1, d 10, d 11", ("t", "child")
    ),
    "on update cascade": Case(
        FAMILY.format(action="ON UPDATE CASCADE"),
        ["UPDATE t SET id = 5 WHERE id = 1"],
        "u 5, u 10, u 11",
        ("t", "child"),
    ),
    "on delete set null": Case(
        FAMILY.format(action="ON DELETE SET NULL"), ["DELETE FROM t WHERE id = 2"], "d 2, u 12", ("t", "child")
    ),
    "on delete set default": Case(
        FAMILY.format(action="ON DELETE SET DEFAULT"), ["DELETE FROM t WHERE id = 1"], "d 1, u 10, u 11", ("t", "child")
    ),
    "an update that changes nothing": Case(
        T, ["UPDATE t SET n = n", "UPDATE t SET n = 1 WHERE id = 1", "UPDATE t SET n = 0 WHERE id = 99"], ""
    ),
    "a key that changes": Case(T, ["UPDATE t SET id = 10, n = 10 WHERE id = 1"], "u 10"),
    "keys that move up": Case(
        "CREATE TABLE t (id int PRIMARY KEY DEFERRABLE, n int); INSERT INTO t VALUES (1, 1), (2, 2)",
        ["UPDATE t SET id = id + 1"],
        "u 2, u 3",
    ),
    "keys that are swapped": Case(
        "CREATE TABLE t (id int PRIMARY KEY DEFERRABLE, n int); INSERT INTO t VALUES (1, 1), (2, 2)",
        ["UPDATE t SET id = 3 - id"],
        "u 2, u 1",
    ),
    "half of a key that changes": Case(
        "CREATE TABLE t (a int, b text, n int, PRIMARY KEY (a, b)); INSERT INTO t VALUES (1, 'x', 0), (1, 'y', 0)",
        ["UPDATE t SET b = 'z' WHERE b = 'x'"],
        "u 1/z",
    ),
    "a key of ranges that may not overlap": Case(
        "CREATE TABLE t (a int4range, b daterange, n int, PRIMARY KEY (a, b WITHOUT OVERLAPS))",
        ["INSERT INTO t VALUES ('[1,2)', '[2026-01-01,2026-02-01)', 0)", "UPDATE t SET n = 1", "DELETE FROM t"],
        "i [1,2)/[2026-01-01,2026-02-01), u [1,2)/[2026-01-01,2026-02-01), d [1,2)/[2026-01-01,2026-02-01)",
        since=18,
    ),
    "no key at all": Case(
        "CREATE TABLE t (n int, s text); INSERT INTO t VALUES (1, 'a'), (1, 'a')",
        ["INSERT INTO t VALUES (1, 'a')", "UPDATE t SET s = 'b'",
         "DELETE FROM t WHERE ctid = (SELECT min(ctid) FROM t)"],
        "i , u , u , u , d ",
    ),
    "views and rules": Case(
        f"{T}; CREATE VIEW v AS SELECT * FROM t WHERE n < 100; CREATE TABLE old (id int);"
        " CREATE RULE r AS ON INSERT TO old DO INSTEAD INSERT INTO t VALUES (NEW.id, 0)",
        ["INSERT INTO v VALUES (4, 4)", "UPDATE v SET n = 5 WHERE id = 1", "INSERT INTO old VALUES (7)"],
        "i 4, u 1, i 7",
    ),
    "triggers of the application": Case(
        f"""{T};
        CREATE FUNCTION before() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN IF NEW.id = 66 THEN RETURN NULL; END IF; NEW.n = NEW.n * 2; RETURN NEW; END $$;
        CREATE FUNCTION after() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN UPDATE t SET n = n + 1 WHERE id = NEW.id; RETURN NULL; END $$;
        CREATE TRIGGER a BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION before();
        CREATE TRIGGER "A" AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION after()""",
        ["INSERT INTO t VALUES (4, 4), (66, 66)"],
        "i 4, u 4",
    ),
    "savepoints and caught errors": Case(
        T,
        [
            "BEGIN; SAVEPOINT a; DELETE FROM t WHERE id = 1; ROLLBACK TO a; UPDATE t SET n = 0 WHERE id = 1; RELEASE a;"
            " SAVEPOINT b; SAVEPOINT c; INSERT INTO t VALUES (4, 4); RELEASE c; ROLLBACK TO b;"
            " DELETE FROM t WHERE id = 3; COMMIT",
            "DO $$ BEGIN INSERT INTO t VALUES (5, 5); INSERT INTO t VALUES (1, 1);"
            " EXCEPTION WHEN unique_violation THEN INSERT INTO t VALUES (6, 6); END $$",
        ],
        "u 1, d 3, i 6",
    ),
    "a procedure that commits in the middle": Case(
        T,
        ["DO $$ BEGIN FOR i IN 10..12 LOOP INSERT INTO t VALUES (i, 0);"
         " IF i % 2 = 0 THEN COMMIT; ELSE ROLLBACK; END IF; END LOOP; END $$"],
        "i 10, i 12",
    ),
    "where current of": Case(
        T,
        ["BEGIN; DECLARE c CURSOR FOR SELECT * FROM t ORDER BY id FOR UPDATE; FETCH 2 FROM c;"
         " UPDATE t SET n = 0 WHERE CURRENT OF c; COMMIT"],
        "u 2",
    ),
    "prepared and committed, prepared and rolled back": Case(
        T,
        [
            "BEGIN; INSERT INTO t VALUES (4, 4); PREPARE TRANSACTION 'matrix-{name}'",
            "COMMIT PREPARED 'matrix-{name}'",
            "BEGIN; DELETE FROM t; PREPARE TRANSACTION 'matrix-{name}'", "ROLLBACK PREPARED 'matrix-{name}'",
        ],
        "i 4",
    ),
    "inheritance: the heirs are unknown": Case(
        f"{T}; CREATE TABLE heir (PRIMARY KEY (id)) INHERITS (t)",
        ["INSERT INTO heir VALUES (10, 10)", "UPDATE t SET n = 0 WHERE id IN (1, 10)"],
        "u 1",
        unlike="id >= 10",
    ),
    "session_replication_role = replica: unknown": Case(
        T,
        ["BEGIN; SET LOCAL session_replication_role = replica; INSERT INTO t VALUES (10, 1); COMMIT",
         "DELETE FROM t WHERE id = 1"],
        "d 1",
        unlike="id >= 10",
    ),
    "the same with triggers that always fire": Case(
        T,
        [
            'ALTER TABLE t ENABLE ALWAYS TRIGGER "!pgevents_row"',
            "BEGIN; SET LOCAL session_replication_role = replica; INSERT INTO t VALUES (10, 1); COMMIT",
        ],
        "i 10",
    ),
    "an unlogged table with what PostgreSQL fills in": Case(
        "CREATE UNLOGGED TABLE t (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, n int DEFAULT 3,"
        " twice int GENERATED ALWAYS AS (n * 2) STORED)",
        ["INSERT INTO t DEFAULT VALUES", "UPDATE t SET n = 5"],
        "i 1, u 1",
    ),
}  # fmt: skip


# For each statement these cannot be captured, or only in a way of their own.
ROW_ONLY = {name for name, case in CASES.items() if case.schema == PARTS} | {
    "triggers of the application",
    "inheritance: the heirs are unknown",
    "the same with triggers that always fire",
}

# The rows of the captured tables, as texts; a table without a key may have some twice.
Rows = Counter[tuple[str, str]]


class Place:
    """A schema of its own for one case, in the database of a version."""

    def __init__(self, database: Database, number: int, mode: Mode = "row") -> None:
        self.database = database
        self.schema = f"case_{number}_{mode}"
        database.execute(f"CREATE SCHEMA {self.schema}")
        self._connection = database.connect(options=f"-c search_path={self.schema}")
        self.version = self._connection.server_version // 10_000

    def run(self, statement: str) -> list[Any]:
        with self._connection.cursor() as cursor:
            if statement.startswith("COPY"):
                command, _, data = statement.partition("\n")
                cursor.copy_expert(command, io.StringIO(data))
            else:
                cursor.execute(statement.replace("{name}", self.database.name))
            return cursor.fetchall() if cursor.description else []

    def play(self, case: Case, mode: Mode = "row") -> tuple[Rows, list[Logged], Rows]:
        """Return the rows before, the log, and the rows after it."""
        self.run(case.schema)
        before = self._rows(case)
        install(self.database, *(f"{self.schema}.{table}" for table in case.tables), mode=mode)
        for statement in case.statements:
            self.run(statement)
        return before, logged(self.database), self._rows(case)

    def _rows(self, case: Case) -> Rows:
        where = f" WHERE NOT ({case.unlike})" if case.unlike else ""
        found = Rows()
        for table in case.tables:
            for (row,) in self.run(f"SELECT to_jsonb(x) FROM {table} AS x{where}"):
                found[f"{self.schema}.{table}", json.dumps(row, sort_keys=True)] += 1
        return found


def played(log: Sequence[Logged], before: Rows) -> Rows:
    """Play the log upon rows: an update takes away what the row was and puts there what it is."""
    state = before.copy()
    for event in log:
        if event.type == "t":
            state = Rows({row: n for row, n in state.items() if row[0] != event.table})
        if event.type in "ud":  # an update tells only the old values of what it changed
            state[event.table, json.dumps({**(event.new or {}), **event.old}, sort_keys=True)] -= 1
        if event.type in "iu":
            state[event.table, json.dumps(event.new, sort_keys=True)] += 1
    assert not -state, "something went away that was not there"
    return +state


def written(event: Logged) -> str:
    return f"{event.type} {'/'.join(map(str, event.pk.values()))}"


@pytest.fixture(scope="module")
def databases(server_of: ServerOf) -> Iterator[Callable[[int | None], Database]]:
    """Return what gives the one database of a version."""
    with ExitStack() as stack:
        made = {version: stack.enter_context(fresh_database(server_of(version))) for version in VERSIONS}
        yield lambda version: made[version]


@pytest.mark.parametrize(("name", "mode"), [(n, m) for n in CASES for m in MODES if m == "row" or n not in ROW_ONLY])
@pytest.mark.parametrize("version", VERSIONS)
def test_the_log_is_what_happened(
    databases: Callable[[int | None], Database], version: int | None, name: str, mode: Mode
) -> None:
    case, place = CASES[name], Place(databases(version), list(CASES).index(name), mode)
    if place.version < case.since:
        return  # it does not know that statement
    before, log, after = place.play(case, mode)
    assert [written(event) for event in log] == (case.events.split(", ") if case.events else [])
    assert played(log, before) == after


def test_the_oracle_notices(database: Database) -> None:
    """The same, with one row of the log lost or changed."""
    before, log, after = Place(database, 0).play(CASES["on conflict"])
    assert played(log, before) == after
    assert played([log[0]._replace(new={**log[0].new, "n": 77}), *log[1:]], before) != after
    assert played([*log, log[-1]], before) != after
    for at in range(len(log)):
        assert played(log[:at] + log[at + 1 :], before) != after
