"""Every way to write reaches the log exactly once, under the right name."""

from __future__ import annotations

import io
from typing import Any

from pgevents_push.event import TableName
from tests.fixtures.capture import install, installer, logged
from tests.fixtures.postgres import Database


def kinds(database: Database) -> list[tuple[str, Any]]:
    return [(event.type, event.pk.get("id")) for event in logged(database)]


def orders(database: Database) -> None:
    database.execute("CREATE TABLE t (id int PRIMARY KEY, n int)")
    install(database, "t")


def test_upsert_merge_copy_and_data_modifying_with(database: Database) -> None:
    orders(database)
    database.execute("INSERT INTO t VALUES (1, 1)")
    database.execute("INSERT INTO t VALUES (1, 2), (2, 2) ON CONFLICT (id) DO UPDATE SET n = excluded.n")
    database.execute("INSERT INTO t VALUES (1, 9) ON CONFLICT DO NOTHING")
    assert kinds(database) == [("i", 1), ("u", 1), ("i", 2)]
    database.execute(
        "MERGE INTO t USING (VALUES (1), (2), (3)) AS s (id) ON t.id = s.id"
        " WHEN MATCHED AND t.id = 1 THEN DELETE WHEN MATCHED THEN UPDATE SET n = 7"
        " WHEN NOT MATCHED THEN INSERT VALUES (s.id, 0)"
    )
    assert sorted(kinds(database)) == [("d", 1), ("i", 3), ("u", 2)]
    with database.connect().cursor() as cursor:
        cursor.copy_expert("COPY t FROM STDIN", io.StringIO("10\t1\n11\t1\n"))
    assert kinds(database) == [("i", 10), ("i", 11)]
    database.execute(
        "WITH gone AS (DELETE FROM t WHERE id >= 10 RETURNING id) INSERT INTO t SELECT id + 10, 0 FROM gone"
    )
    assert sorted(kinds(database)) == [("d", 10), ("d", 11), ("i", 20), ("i", 21)]
    database.execute("UPDATE t SET n = 1 WHERE id = 999")
    assert kinds(database) == []


def test_truncate(database: Database) -> None:
    orders(database)
    database.execute("CREATE TABLE child (id int PRIMARY KEY REFERENCES t)")
    install(database, "child")
    database.execute("TRUNCATE t CASCADE")
    assert sorted((event.table, event.type, event.pk) for event in logged(database)) == [
        ("public.child", "t", {}),
        ("public.t", "t", {}),
    ]


def test_rows_that_a_foreign_key_deletes_and_changes(database: Database) -> None:
    orders(database)
    database.execute("CREATE TABLE child (id int PRIMARY KEY, t int REFERENCES t ON DELETE CASCADE ON UPDATE CASCADE)")
    install(database, "child")
    database.execute("INSERT INTO t VALUES (1, 0); INSERT INTO child VALUES (7, 1)")
    logged(database)
    database.execute("UPDATE t SET id = 2; DELETE FROM t")
    assert sorted((event.table, event.type) for event in logged(database)) == [
        ("public.child", "d"), ("public.child", "u"), ("public.t", "d"), ("public.t", "u"),
    ]  # fmt: skip


def test_a_trigger_of_the_application_that_writes_the_row_again_comes_after(database: Database) -> None:
    orders(database)
    database.execute(
        "CREATE FUNCTION again() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN UPDATE t SET n = n + 1 WHERE id = NEW.id; RETURN NULL; END $$;"
        'CREATE TRIGGER "0_again" AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION again()'
    )
    database.execute("INSERT INTO t VALUES (1, 1)")
    assert [(event.type, event.new["n"]) for event in logged(database)] == [("i", 1), ("u", 2)]


def test_partitions_carry_the_name_of_their_parent(database: Database) -> None:
    database.execute(
        "CREATE TABLE p (id int, region text, note text, PRIMARY KEY (id, region)) PARTITION BY LIST (region);"
        "CREATE TABLE p_eu PARTITION OF p FOR VALUES IN ('eu')"
    )
    install(database, "p")
    database.execute("CREATE TABLE p_us (note text, region text NOT NULL, id int NOT NULL)")  # another column order
    database.execute("ALTER TABLE p ATTACH PARTITION p_us FOR VALUES IN ('us')")
    database.execute("INSERT INTO p VALUES (1, 'eu', 'a')")
    database.execute("INSERT INTO p_us VALUES ('b', 'us', 2)")
    database.execute("UPDATE p_eu SET note = 'c'")
    database.execute("UPDATE p SET region = 'us' WHERE id = 1")
    database.execute("TRUNCATE p")
    events = logged(database)
    assert {event.table for event in events} == {"public.p"}
    assert [(event.type, event.pk) for event in events] == [
        ("i", {"id": 1, "region": "eu"}),
        ("i", {"id": 2, "region": "us"}),
        ("u", {"id": 1, "region": "eu"}),
        ("d", {"id": 1, "region": "eu"}),
        ("i", {"id": 1, "region": "us"}),
        ("t", {}),
    ]
    status = installer(database).status([TableName("public", "p"), TableName("public", "p_us")])
    assert list(status.tables.values()) == ["current", "refused"]
    assert "parent" in status.refused[TableName("public", "p_us")]
    assert status.orphans == ()


def test_rollbacks_and_savepoints(database: Database) -> None:
    orders(database)
    database.execute("BEGIN; INSERT INTO t VALUES (1, 0); ROLLBACK")
    assert kinds(database) == []
    database.execute(
        "BEGIN; SAVEPOINT a; INSERT INTO t VALUES (1, 0); ROLLBACK TO a; INSERT INTO t VALUES (2, 0);"
        " SAVEPOINT b; INSERT INTO t VALUES (3, 0); RELEASE b; COMMIT"
    )
    assert database.execute("SELECT count(DISTINCT xid) FROM pgevents.log") == [(1,)]
    assert kinds(database) == [("i", 2), ("i", 3)]


def test_serializable_writers_of_different_rows_do_not_fail(database: Database) -> None:
    orders(database)
    database.execute("INSERT INTO t VALUES (1, 0), (2, 0)")
    first, second = database.connect(autocommit=False), database.connect(autocommit=False)
    for number, connection in enumerate((first, second), start=1):
        connection.set_session(isolation_level="SERIALIZABLE")
        connection.cursor().execute("UPDATE t SET n = 1 WHERE id = %s", (number,))
    first.commit()
    second.commit()
    assert len(kinds(database)) == 4


def test_replicated_writes_are_silent_as_postgresql_documents(database: Database) -> None:
    orders(database)
    database.execute("BEGIN; SET LOCAL session_replication_role = replica; INSERT INTO t VALUES (1, 0); COMMIT")
    assert kinds(database) == []
    database.execute('ALTER TABLE t ENABLE ALWAYS TRIGGER "!pgevents_row"')
    database.execute("BEGIN; SET LOCAL session_replication_role = replica; INSERT INTO t VALUES (2, 0); COMMIT")
    assert kinds(database) == [("i", 2)]
    assert installer(database).status([TableName("public", "t")]).complete
