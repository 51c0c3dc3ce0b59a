"""`flask pgevents doctor` against a real PostgreSQL, pgbouncer and server."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from demo.postgres import Postgres, find_binaries
from pgevents_push.cli import pgevents
from tests.fixtures import programs
from tests.fixtures.pooler import pgbouncer
from tests.fixtures.postgres import Database, Server
from tests.fixtures.roles import role
from tests.fixtures.servers import ServerName, free_port, serving
from tests.fixtures.shop import MakeShop, Shop


def registered(shop: Shop, *models: str) -> Shop:
    for model in models or ("Order",):
        shop.events.on_change(getattr(shop, model))(lambda event: None)
    return shop.register()


def doctor(shop: Shop, *arguments: str) -> tuple[int, dict[str, list[str]]]:
    """Run it; return the exit code and the findings by severity."""
    result = shop.app.test_cli_runner().invoke(pgevents, ["doctor", "--json", *arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.output
    found: dict[str, list[str]] = {}
    for finding in json.loads(result.output):
        assert finding["cure"] or finding["severity"] in ("ok", "note"), finding
        found.setdefault(finding["severity"], []).append(f"{finding['what']} → {finding['cure']}")
    assert (result.exit_code == 1) is ("error" in found)
    return result.exit_code, found


def test_a_healthy_app(shop: Shop) -> None:
    registered(shop)
    shop.create_all()
    code, found = doctor(shop)
    assert (code, list(found)) == (0, ["ok", "note"])
    text = "\n".join(found["ok"])
    for words in ("answers the role", "A NOTIFY arrives after", "public.orders is captured", "cannot log in", "rows"):
        assert words in text, words
    printed = shop.app.test_cli_runner().invoke(pgevents, ["doctor"])
    assert "public.orders is captured." in printed.output


def test_it_writes_nothing(shop: Shop, database: Database) -> None:
    registered(shop)
    assert doctor(shop)[0] == 1
    assert database.execute("SELECT 1 FROM pg_namespace WHERE nspname = 'pgevents'") == []


def test_what_is_wrong_with_the_triggers(shop: Shop, database: Database) -> None:
    registered(shop, "Order", "Ticket", "Line")
    shop.events.on_change("some_view")(lambda event: None)
    shop.create_all()
    database.execute("CREATE TABLE old (id int PRIMARY KEY)")
    database.execute("CREATE VIEW some_view AS SELECT 1 AS id")
    assert shop.app.test_cli_runner().invoke(pgevents, ["install", "old"]).exit_code == 0
    database.execute('ALTER TABLE orders DISABLE TRIGGER "!pgevents_row"')
    database.execute('DROP TRIGGER "!pgevents_row" ON "Tickets"; DROP TRIGGER "!pgevents_truncate" ON "Tickets"')
    database.execute("ALTER TABLE lines RENAME COLUMN amount TO sum")
    database.execute('ALTER TABLE lines RENAME COLUMN "Code" TO code')
    code, found = doctor(shop)
    assert code == 1
    errors, warnings = "\n".join(found["error"]), "\n".join(found["warning"])
    assert "The trigger on public.orders is disabled" in errors
    assert "public.Tickets has no trigger" in errors
    assert "it is a view" in errors
    assert "public.lines has an outdated trigger" in warnings
    assert any("uninstall public.old" in note for note in found["note"])


def test_an_unreachable_database_is_the_finding(make_shop: MakeShop, database: Database) -> None:
    """Nor is the password shown, even where PostgreSQL's own words have it, as the name of a database here."""
    secret = "pass-word-of-the-app"
    url = sa.make_url(database.url).set(password=secret, database=secret)
    shop = make_shop(PGEVENTS_DATABASE_URL=url.render_as_string(hide_password=False))
    registered(shop)
    code, found = doctor(shop)
    assert code == 1
    assert "is not reached" in found["error"][0]
    assert "PGEVENTS_DATABASE_URL" in found["error"][0]
    result = shop.app.test_cli_runner().invoke(pgevents, ["doctor"])
    assert secret not in result.output + json.dumps(found)


def test_a_role_that_may_not_read_the_log(shop: Shop, make_shop: MakeShop, database: Database) -> None:
    registered(shop)
    shop.create_all()
    with role(database, "reader") as name:
        poor = Database(Server({**database.dsn, "user": name}), database.name)
        code, found = doctor(registered(make_shop(at=poor)))
        assert code == 1
        assert all(f"install --reader {name}" in error for error in found["error"])
        assert any("may not read the log" in error for error in found["error"])


def test_an_owner_who_can_log_in(make_shop: MakeShop, database: Database) -> None:
    with role(database, "owner") as name:
        database.execute(f"GRANT CREATE ON DATABASE {database.name} TO {name}; GRANT CREATE ON SCHEMA public TO {name}")
        shop = registered(make_shop(at=Database(Server({**database.dsn, "user": name}), database.name)))
        shop.create_all()
        _, found = doctor(shop)
        assert any(f"'{name}', who can log in" in note for note in found["note"])


def test_an_old_log(shop: Shop, database: Database) -> None:
    registered(shop)
    shop.create_all()
    database.execute("INSERT INTO orders (id) VALUES (1)")
    database.execute("UPDATE pgevents.log SET at = now() - interval '3 days'")
    assert "3 days old" in doctor(shop)[1]["warning"][0]


@pytest.mark.parametrize(("wakeup", "severity"), [("notify", "warning"), ("poll", "note")])
def test_a_pooler_in_transaction_mode(make_shop: MakeShop, database: Database, wakeup: str, severity: str) -> None:
    with pgbouncer(database, "transaction") as through:
        shop = registered(make_shop(at=through, PGEVENTS_WAKEUP=wakeup))
        shop.create_all()
        code, found = doctor(shop)
        shop.close()
    assert code == 0
    assert "pooler in transaction mode" in found[severity][0]


def test_a_pooler_in_session_mode(make_shop: MakeShop, database: Database) -> None:
    with pgbouncer(database, "session") as through:
        shop = registered(make_shop(at=through))
        shop.create_all()
        code, found = doctor(shop)
        shop.close()
    assert code == 0
    assert any("through a pooler in session mode" in text for text in found["ok"])


@pytest.fixture
def replica(tmp_path: Path) -> Iterator[Database]:
    """A standby, made by pg_basebackup from a server of its own."""
    binaries = find_binaries(15)
    with Postgres(binaries, port=free_port(), settings={"wal_level": "replica"}) as primary:
        copy = tmp_path / "copy"
        source = f"host=127.0.0.1 port={primary.port} user=postgres"
        subprocess.run([binaries / "pg_basebackup", "-D", copy, "-d", source, "-R", "-c", "fast"], check=True, cwd="/")
        if primary._user:
            for path in (tmp_path, copy, *copy.rglob("*")):
                shutil.chown(path, primary._user["user"], primary._user["group"])
        with Postgres(binaries, data_dir=copy, port=free_port()) as standby:
            dsn = {"host": "127.0.0.1", "port": str(standby.port), "user": "postgres", "dbname": "postgres"}
            database = Database(Server(dsn), "postgres")
            yield database
            database.close()


def test_a_replica(make_shop: MakeShop, replica: Database) -> None:
    code, found = doctor(registered(make_shop(at=replica)))
    assert code == 1
    assert "replica" in found["error"][0]


def test_the_stream_of_a_real_server(shop: Shop, serve: Any) -> None:
    shop.app.config["PGEVENTS_HEARTBEAT_SECONDS"] = 0.3
    registered(shop)
    shop.events.expose(shop.Order, public=True)
    shop.create_all()
    shop.start()
    site = serve(shop.app)
    code, found = doctor(shop, "--url", f"http://127.0.0.1:{site.port}/pgevents/stream?table=orders")
    assert code == 0
    assert any("The stream went on after 0." in text for text in found["ok"])
    code, found = doctor(shop, "--url", f"http://127.0.0.1:{site.port}/pgevents/stream?table=hidden")
    assert code == 1
    assert "404" in found["error"][0]


def test_the_worker_class(shop: Shop, database: Database) -> None:
    """gunicorn's sync workers: one open stream blocks one of them."""
    database.execute(programs.SCHEMA)
    registered(shop)
    kinds: tuple[ServerName, ...] = ("sync", "gthread", "gevent")
    for name in kinds:
        with serving(name, database.url, workers=1, heartbeat_seconds=0.3) as server:
            found = doctor(shop, "--url", f"http://127.0.0.1:{server.ports[0]}/pgevents/stream?table=orders")[1]
        assert any("The stream went on" in text for text in found["ok"])
        assert any("one request at a time" in text for text in found.get("error", [])) == (name == "sync")


def test_rows_that_nobody_can_be_shown(shop: Shop, make_shop: MakeShop, database: Database) -> None:
    shop.events.expose(shop.Order, public=True)
    shop.up()
    with role(database, "listener") as name:
        shop.runtime.installer().install([], reader=name)
        url = database.url.replace("postgres@", f"{name}@")
        other = make_shop(PGEVENTS_DATABASE_URL=url, PGEVENTS_INSTALL="verify")
        other.events.expose(other.Order, public=True)
        other.events.expose("not_there", columns=["id"], public=True)
        other.register()
        [found] = [text for text in doctor(other)[1]["warning"] if "snapshot" in text]
        assert f"GRANT SELECT ON public.orders TO {name}" in found
        database.execute(f"GRANT SELECT ON orders TO {name}; ALTER TABLE orders ENABLE ROW LEVEL SECURITY")
        [found] = [text for text in doctor(other)[1]["warning"] if "snapshot" in text]
        assert f"ALTER ROLE {name} BYPASSRLS" in found
        database.execute("ALTER TABLE orders DISABLE ROW LEVEL SECURITY")
        assert not any("snapshot" in text for text in doctor(other)[1].get("warning", []))
