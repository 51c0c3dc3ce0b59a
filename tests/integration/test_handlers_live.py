"""Handlers against a real PostgreSQL: declared at any time, on anything that names a table, each for itself."""

from __future__ import annotations

import datetime
import logging
import subprocess
import threading
import uuid
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask, g, has_request_context

from pgevents_push import ChangeEvent, PGEvents, signals
from pgevents_push.errors import ConfigurationError, DatabaseError, TargetError
from tests.fixtures.patience import wait_until
from tests.fixtures.postgres import Database
from tests.fixtures.shop import MakeShop, Shop

SECONDS = 10


def psql(database: Database, *statements: str) -> None:
    arguments = [part for statement in statements for part in ("-c", statement)]
    subprocess.run([*database.psql_command(), "-q", *arguments], check=True, capture_output=True, timeout=30)


# --- Declaring


def test_a_handler_hears_whoever_writes(shop: Shop, database: Database) -> None:
    shop.events.on_change(shop.Order)(shop.hear())
    shop.up()
    psql(database, "INSERT INTO orders (id) VALUES (1)", "UPDATE orders SET total = 3")
    database.execute("DELETE FROM orders")
    with shop.app.app_context():
        shop.db.session.add(shop.Order(id=2))
        shop.db.session.commit()
    database.execute("TRUNCATE orders")
    shop.until("insert 1", "update 1", "delete 1", "insert 2", "truncate ")


def test_before_and_after_registration_and_after_start(shop: Shop, database: Database) -> None:
    shop.events.on_insert(shop.Order)(shop.hear("before: "))
    shop.create_all()
    shop.register()
    shop.events.on_insert(shop.Order)(shop.hear("registered: "))
    shop.start()
    shop.events.on_insert(shop.Order)(shop.hear("started: "))
    database.execute("INSERT INTO orders (id) VALUES (1)")
    wait_until(lambda: len(shop.heard) == 3)
    assert sorted(shop.heard) == ["before: insert 1", "registered: insert 1", "started: insert 1"]


def test_a_table_that_nobody_wanted_before_is_captured_when_a_handler_comes(shop: Shop, database: Database) -> None:
    shop.up()
    shop.events.on_insert(shop.Ticket)(shop.hear())
    key = uuid.uuid4()

    def heard() -> list[str]:
        database.execute('INSERT INTO "Tickets" (id) VALUES (%s) ON CONFLICT DO NOTHING', str(uuid.uuid4()))
        return shop.heard

    wait_until(heard, SECONDS)
    shop.heard.clear()
    database.execute('INSERT INTO "Tickets" (id) VALUES (%s)', str(key))
    wait_until(lambda: f"insert {key}" in shop.heard)


def test_models_tables_and_names(shop: Shop, database: Database) -> None:
    database.execute("CREATE SCHEMA sales")
    database.execute('CREATE TABLE sales."Big Orders" (id int PRIMARY KEY)')
    plain = sa.Table("plain", sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True))
    database.execute("CREATE TABLE plain (id int PRIMARY KEY)")
    for target in (shop.Order, plain, 'sales."Big Orders"', "lines"):
        shop.events.on_insert(target)(shop.hear())
    shop.up()
    database.execute("INSERT INTO orders (id) VALUES (1)")
    database.execute("INSERT INTO plain VALUES (2)")
    database.execute('INSERT INTO sales."Big Orders" VALUES (3)')
    database.execute("INSERT INTO lines VALUES (4, '2026-01-02', 'a')")
    wait_until(lambda: len(shop.heard) == 4)
    assert sorted(shop.heard) == ["insert 1", "insert 2", "insert 3", "insert 4,2026-01-02,a"]


def test_columns_and_when(shop: Shop, database: Database) -> None:
    shop.events.on_update(shop.Order, columns=["status"], when=lambda e: (e.row or {})["total"] > 5)(shop.hear())
    shop.events.on_delete(shop.Order)(shop.hear())
    shop.up()
    database.execute("INSERT INTO orders (id, total) SELECT n, n FROM generate_series(1, 10) AS n")
    database.execute("UPDATE orders SET total = total")  # changes nothing
    database.execute("UPDATE orders SET total = total + 1 WHERE id > 8")  # another column
    database.execute("UPDATE orders SET status = 'sent' WHERE id > 3 AND id < 7")
    database.execute("DELETE FROM orders WHERE id = 1")
    wait_until(lambda: "delete 1" in shop.heard)
    wait_until(lambda: len(shop.heard) == 2)
    assert sorted(shop.heard) == ["delete 1", "update 6"]


def test_what_an_update_tells(shop: Shop, database: Database) -> None:
    events: list[ChangeEvent] = []
    shop.events.on_update(shop.Order)(events.append)
    shop.up()
    database.execute("INSERT INTO orders VALUES (1, 'open', 3)")
    with database.connect(autocommit=False) as connection, connection.cursor() as cursor:
        cursor.execute("""SET LOCAL pgevents.actor = '{"user": 7}'""")
        cursor.execute("UPDATE orders SET id = 2, total = NULL")
        cursor.execute("UPDATE orders SET status = 'sent'")
    wait_until(lambda: len(events) == 2)
    first, second = events
    assert (first.pk, first.old_pk, first.changed) == ({"id": 2}, {"id": 1}, ("id", "total"))
    assert (first.row, first.old) == ({"id": 2, "status": "open", "total": None}, {"id": 1, "total": 3})
    assert (first.last, second.last, first.tx == second.tx) == (False, True, True)
    assert dict(first.actor) == {"user": 7}
    assert second.old_pk is None
    assert first.at <= second.at == second.committed_at == first.committed_at


# --- Tables that come later


def test_the_first_row_of_a_table_made_by_create_all_is_heard(shop: Shop, database: Database) -> None:
    shop.events.on_insert(shop.Order)(shop.hear())
    shop.register().start()
    shop.create_all()
    database.execute("INSERT INTO orders (id) VALUES (1)")
    shop.until("insert 1")


def test_create_all_before_the_first_start_installs_and_later_rows_are_heard(shop: Shop, database: Database) -> None:
    shop.events.on_insert(shop.Order)(shop.hear())
    shop.register()
    shop.create_all()
    assert database.execute("SELECT count(*) FROM pg_trigger WHERE tgname LIKE '!pgevents%%'") == [(2,)]
    shop.start()
    database.execute("INSERT INTO orders (id) VALUES (1)")
    shop.until("insert 1")


def test_create_all_in_a_transaction_that_is_rolled_back_leaves_nothing(shop: Shop, database: Database) -> None:
    shop.events.on_insert(shop.Order)(shop.hear())
    shop.register()
    with shop.app.app_context(), shop.db.engine.connect() as connection:
        shop.db.metadata.create_all(connection)
        connection.rollback()
    assert database.execute("SELECT to_regclass('orders'), to_regnamespace('pgevents')") == [(None, None)]


def test_a_table_made_by_psql_is_heard_soon(shop: Shop, database: Database) -> None:
    shop.events.on_insert(shop.Order)(shop.hear())
    shop.register().start()
    psql(database, "CREATE TABLE orders (id serial PRIMARY KEY)")

    def heard() -> list[str]:
        database.execute("INSERT INTO orders DEFAULT VALUES")
        return shop.heard

    wait_until(heard, SECONDS)


def test_a_table_that_is_dropped_and_made_again_is_heard_again(shop: Shop, database: Database) -> None:
    shop.events.on_insert(shop.Order)(shop.hear())
    shop.up()
    with shop.app.app_context():
        shop.db.drop_all()
        shop.db.create_all()
    database.execute("INSERT INTO orders (id) VALUES (5)")
    shop.until("insert 5")


# --- Around each call


def test_each_call_has_a_context_and_a_session_of_its_own_and_gives_them_back(shop: Shop, database: Database) -> None:
    sessions: list[Any] = []

    def hear(event: ChangeEvent) -> None:
        assert not has_request_context()
        assert not hasattr(g, "seen")
        g.seen = True
        shop.db.session.execute(sa.text("SELECT 1"))  # takes a connection and leaves a transaction open
        sessions.append(shop.db.session())
        if event.pk["id"] % 2:
            raise ValueError("with an open transaction")

    shop.events.on_insert(shop.Order)(hear)
    shop.up()
    database.execute("INSERT INTO orders (id) SELECT generate_series(1, 20)")
    wait_until(lambda: len(sessions) == 20)
    assert len({id(session) for session in sessions}) == 20
    wait_until(lambda: shop.checked_out() == 0)
    [(open_,)] = database.execute(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND state LIKE 'idle in%%'", database.name
    )
    assert open_ == 0


def test_a_handler_may_write_and_its_write_is_an_event_too(shop: Shop, database: Database) -> None:
    def close(event: ChangeEvent) -> None:
        shop.db.session.execute(sa.text("UPDATE orders SET status = 'closed' WHERE id = :id"), event.pk)
        shop.db.session.commit()

    shop.events.on_insert(shop.Order)(close)
    shop.events.on_update(shop.Order)(shop.hear())
    shop.up()
    database.execute("INSERT INTO orders (id) VALUES (1)")
    shop.until("update 1")


def test_a_bad_handler_disturbs_nobody(shop: Shop, database: Database, caplog: pytest.LogCaptureFixture) -> None:
    hang, told = threading.Event(), list[tuple[str, str]]()

    @shop.events.on_insert(shop.Order)
    def exits(event: ChangeEvent) -> None:
        raise SystemExit(1)

    @shop.events.on_insert(shop.Order)
    def hangs(event: ChangeEvent) -> None:
        hang.wait(SECONDS)

    @shop.events.on_insert(shop.Order)
    def raises(event: ChangeEvent) -> None:
        raise ValueError(event.pk["id"])

    shop.events.on_insert(shop.Order)(shop.hear())
    shop.up()

    def note(sender: Flask, handler: str, error: BaseException, **_: Any) -> None:
        told.append((handler.rsplit(".", 1)[-1], type(error).__name__))

    with signals.handler_failed.connected_to(note, shop.app):
        database.execute("INSERT INTO orders (id) SELECT generate_series(1, 3)")
        shop.until("insert 1", "insert 2", "insert 3")
        wait_until(lambda: len(told) == 6)
    assert sorted(set(told)) == [("exits", "SystemExit"), ("raises", "ValueError")]
    assert shop.runtime.status == "listening"
    hang.set()
    tallies = {tally.handler.rsplit(".", 1)[-1]: dict(tally.counts) for tally in shop.runtime.tallies()}
    assert tallies["raises"] == {"failed": 3}
    wait_until(lambda: "failed on event" in caplog.text)


def test_a_killed_connection_costs_no_event(shop: Shop, database: Database) -> None:
    words: list[str] = []
    shop.events.on_insert(shop.Order)(shop.hear())
    shop.up()

    def note(sender: Flask, status: str, error: str | None) -> None:
        words.append(status)

    with signals.listener_changed.connected_to(note, shop.app):
        database.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s"
            " AND application_name = 'pgevents_push'",
            database.name,
        )
        database.execute("INSERT INTO orders (id) VALUES (1)")
        shop.until("insert 1")
        wait_until(lambda: words[:2] == ["reconnecting", "listening"])


def test_a_receiver_of_the_status_that_fails_does_not_end_the_listener(shop: Shop, database: Database) -> None:
    shop.events.on_insert(shop.Order)(shop.hear())
    shop.create_all()
    shop.register()

    def fail(sender: Flask, **_: Any) -> None:
        raise RuntimeError("a receiver that fails")

    with signals.listener_changed.connected_to(fail, shop.app):
        shop.start()
        database.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s"
            " AND application_name = 'pgevents_push'",
            database.name,
        )
        database.execute("INSERT INTO orders (id) VALUES (1)")
        shop.until("insert 1")


# --- load()


def test_load_gives_the_fresh_instance_or_none(shop: Shop, database: Database) -> None:
    loaded: dict[str, Any] = {}
    go = threading.Event()

    def load(event: ChangeEvent) -> None:
        go.wait(SECONDS)
        instance = event.load()
        loaded[f"{event.type} {','.join(map(str, event.pk.values()))}"] = instance and {
            name: getattr(instance, name) for name, _ in sa.inspect(type(instance)).column_attrs.items()
        }

    for model in (shop.Order, shop.Ticket, shop.Line):
        shop.events.on_change(model)(load)
    shop.up()
    key = uuid.uuid4()
    database.execute("INSERT INTO orders VALUES (1, 'open', 3), (2, 'open', 4)")
    database.execute("UPDATE orders SET status = 'sent' WHERE id = 1")
    database.execute("DELETE FROM orders WHERE id = 2")
    database.execute("""INSERT INTO "Tickets" VALUES (%s, 'it''s')""", str(key))
    database.execute("INSERT INTO lines VALUES (1, '2026-01-02', 'x y', 7), (1, '2026-01-03', 'x y', 8)")
    go.set()
    wait_until(lambda: len(loaded) == 7)
    now = {"id": 1, "status": "sent", "total": 3}
    assert loaded["insert 1"] == loaded["update 1"] == now  # fresh: as it is now, not as it was then
    assert loaded["insert 2"] is None
    assert loaded["delete 2"] is None
    assert loaded[f"insert {key}"] == {"id": key, "title": "it's"}
    line = {"order_id": 1, "day": datetime.date(2026, 1, 2), "code": "x y", "amount": 7}
    assert loaded["insert 1,2026-01-02,x y"] == line
    wait_until(lambda: shop.checked_out() == 0)  # the last handler leaves its context after what it wrote here


def test_load_of_a_table_without_a_model(shop: Shop, database: Database) -> None:
    errors: list[Exception] = []

    @shop.events.on_insert("orders")
    def load(event: ChangeEvent) -> None:
        with pytest.raises(TargetError, match="has no model") as caught:
            event.load()
        errors.append(caught.value)

    shop.up()
    database.execute("INSERT INTO orders (id) VALUES (1)")
    wait_until(lambda: errors)


# --- Several apps, databases and instances


def test_one_blueprint_on_two_apps_with_two_databases(
    make_shop: MakeShop, database: Database, second_database: Database
) -> None:
    events = PGEvents()
    one, other = make_shop(events=events), make_shop(second_database, events=events)
    seen: list[tuple[str, int]] = []

    @events.on_insert("orders")
    def hear(event: ChangeEvent) -> None:
        from flask import current_app

        seen.append((current_app.config["NAME"], event.pk["id"]))

    for name, shop in (("one", one), ("other", other)):
        shop.app.config["NAME"] = name
        shop.up()
    database.execute("INSERT INTO orders (id) VALUES (1)")
    second_database.execute("INSERT INTO orders (id) VALUES (2)")
    wait_until(lambda: len(seen) == 2)
    assert sorted(seen) == [("one", 1), ("other", 2)]
    events.stop(one.app)
    second_database.execute("INSERT INTO orders (id) VALUES (3)")
    wait_until(lambda: ("other", 3) in seen)


def test_a_second_instance_for_a_second_database(
    make_shop: MakeShop, database: Database, second_database: Database
) -> None:
    shop = make_shop(
        SQLALCHEMY_BINDS={"audit": second_database.url},
        AUDIT_PGEVENTS_DATABASE_URL=second_database.url,
        AUDIT_PGEVENTS_POLL_SECONDS=0.3,
    )
    audit = PGEvents(config_prefix="AUDIT_PGEVENTS")
    entry = sa.Table("entries", shop.db.metadatas["audit"], sa.Column("id", sa.Integer, primary_key=True))
    shop.events.on_insert(shop.Order)(shop.hear("shop: "))
    audit.on_insert(entry)(shop.hear("audit: "))
    shop.up()
    shop.app.register_blueprint(audit.blueprint)
    audit.start(shop.app)
    wait_until(lambda: audit.runtime(shop.app).status == "listening")
    assert audit.runtime(shop.app).config.poll_seconds == 0.3
    database.execute("INSERT INTO orders (id) VALUES (1)")
    second_database.execute("INSERT INTO entries VALUES (2)")
    wait_until(lambda: sorted(shop.heard) == ["audit: insert 2", "shop: insert 1"])
    rules = {rule.rule for rule in shop.app.url_map.iter_rules()}
    assert {"/pgevents/stream", "/audit_pgevents/stream"} <= rules
    assert database.execute("SELECT to_regclass('entries')") == [(None,)]


def test_starting_and_stopping_twice(shop: Shop, database: Database) -> None:
    shop.events.on_insert(shop.Order)(shop.hear())
    shop.create_all()
    shop.register()
    shop.events.stop(shop.app)
    shop.start().start()
    running = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pgevents_push' AND datname = %s"
    assert database.execute(running, database.name) == [(1,)]
    shop.events.stop(shop.app)
    shop.events.stop(shop.app)
    wait_until(lambda: database.execute(running, database.name) == [(0,)])
    assert shop.runtime.status == "stopped"
    shop.start()
    database.execute("INSERT INTO orders (id) VALUES (1)")
    shop.until("insert 1")


# --- Clear errors


def app_at(url: str | None, **more: Any) -> Flask:
    app = Flask("shop", root_path=".")
    if url is not None:
        app.config["SQLALCHEMY_DATABASE_URI"] = url
    app.config.update(more)
    return app


@pytest.mark.parametrize(
    ("app", "text"),
    [
        (app_at(None), r"Set SQLALCHEMY_DATABASE_URI before registering the blueprint, or PGEVENTS_DATABASE_URL"),
        (app_at("sqlite:///:memory:"), r"needs PostgreSQL, but the database is sqlite"),
        (app_at("mysql://u:s3cret@h/d"), r"needs PostgreSQL, but the database is mysql"),
        (app_at("postgresql:/u:s3cret@"), r"cannot be read"),
        (app_at("sqlite://", PGEVENTS_DATABASE_URL="no url s3cret"), r"cannot be read"),
        (app_at("sqlite://", PGEVENTS_DATABASE_URL="postgres://u:s3cret@h/d"), r"write postgresql\+psycopg2://"),
    ],
)
def test_a_wrong_database_is_an_error_at_registration(app: Flask, text: str) -> None:
    with pytest.raises(DatabaseError, match=text) as caught:
        PGEvents(app)
    assert "s3cret" not in str(caught.value)
    assert "pgevents" not in app.extensions.get("pgevents", {})


def bound(shop: Shop) -> Any:
    class Entry(shop.db.Model):  # type: ignore[misc, name-defined]
        __bind_key__ = "audit"
        __tablename__ = "entries"
        id = shop.db.Column(shop.db.Integer, primary_key=True)

    return Entry


REMEDY = r"bound to the database 'audit'.*PGEvents\(config_prefix=\"AUDIT_PGEVENTS\"\).*AUDIT_PGEVENTS_DATABASE_URL"


@pytest.mark.parametrize("declare", ["on_insert", "listen", "expose", "target"])
def test_a_model_of_another_database_is_an_error_that_names_the_remedy(
    declare: str, make_shop: MakeShop, second_database: Database
) -> None:
    shop = make_shop(SQLALCHEMY_BINDS={"audit": second_database.url})
    declare_on(shop.events, declare, bound(shop))
    with pytest.raises(ConfigurationError, match=REMEDY):
        shop.register()


@pytest.mark.parametrize("declare", ["on_insert", "listen", "expose", "target"])
def test_also_when_it_is_declared_late_and_then_nothing_else_suffers(
    declare: str, make_shop: MakeShop, database: Database, second_database: Database
) -> None:
    shop = make_shop(SQLALCHEMY_BINDS={"audit": second_database.url})
    shop.events.on_insert(shop.Order)(shop.hear())
    shop.up()
    with pytest.raises(ConfigurationError, match=REMEDY):
        declare_on(shop.events, declare, bound(shop))
    shop.events.on_insert(shop.Order)(shop.hear("late: "))
    database.execute("INSERT INTO orders (id) VALUES (1)")
    wait_until(lambda: sorted(shop.heard) == ["insert 1", "late: insert 1"])


def declare_on(events: PGEvents, how: str, model: Any) -> None:
    if how == "on_insert":
        events.on_insert(model)(print)
    elif how == "listen":
        events.listen(model, {"insert"}, print)
    elif how == "expose":
        events.expose(model, public=True)
    else:
        events.target(model)


def test_a_model_bound_to_the_same_database_is_fine(make_shop: MakeShop, database: Database) -> None:
    shop = make_shop(SQLALCHEMY_BINDS={"audit": database.url})
    shop.events.on_insert(bound(shop))(shop.hear())
    shop.up()
    database.execute("INSERT INTO entries VALUES (1)")
    shop.until("insert 1")


@pytest.mark.parametrize(
    "declare",
    [
        lambda events, model: events.on_update(model, columns=["statsu"])(print),
        lambda events, model: events.on_update(model, columns="status")(print),
        lambda events, model: events.on_insert(model)("no function"),
        lambda events, model: events.on_insert(model, when=True)(print),
        lambda events, model: events.on_insert(7)(print),
        lambda events, model: events.on_insert(object)(print),
        lambda events, model: events.on_change(model, types=["upsert"])(print),
        lambda events, model: events.on_change(model, types=[])(print),
    ],
)
def test_a_wrong_declaration_is_an_error_at_once(declare: Any, shop: Shop) -> None:
    with pytest.raises(ConfigurationError):
        declare(shop.events, shop.Order)
    assert shop.events.declarations.targets("public") == []


def test_a_wrong_password_is_shown_nowhere(
    make_shop: MakeShop, database: Database, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    url = sa.make_url(database.url).set(username="nobody_here", password="s3cret")
    errors: list[str] = []
    shop = make_shop(PGEVENTS_DATABASE_URL=url.render_as_string(hide_password=False))

    def note(sender: Flask, status: str, error: str | None) -> None:
        errors.append(error or "")

    shop.events.on_insert(shop.Order)(print)
    shop.register()
    with signals.listener_changed.connected_to(note, shop.app):
        shop.events.start(shop.app)
        wait_until(lambda: errors)
    assert "nobody_here" in errors[0]
    response = shop.app.test_client().get("/pgevents/health")
    assert response.status_code == 503
    said = caplog.text + repr(errors) + response.get_data(as_text=True) + "".join(capfd.readouterr())
    assert "s3cret" not in said
    assert "s3cret" not in repr(shop.runtime.database)
