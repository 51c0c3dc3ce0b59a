"""`flask pgevents …` on a real PostgreSQL, and its DDL where there is none."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from flask import Flask

from pgevents_push import PGEvents
from pgevents_push.cli import pgevents
from pgevents_push.listener import read_position
from tests.fixtures.postgres import Database
from tests.fixtures.ring import pruned, write_old
from tests.fixtures.shop import MakeShop, Shop

ROOT = Path(__file__).parents[2]
UNREACHABLE = "postgresql+psycopg2://nobody@192.0.2.1:1/none"  # RFC 5737: nobody is there


@pytest.fixture
def ready(shop: Shop) -> Shop:
    """A Shop with its tables, registered, and nothing installed."""
    shop.create_all()
    shop.events.on_insert(shop.Order)(print)
    shop.events.on_insert(shop.Ticket)(print)
    return shop.register()


def run(app: Flask, *arguments: str) -> Result:
    result = app.test_cli_runner().invoke(pgevents, list(arguments))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def ours(database: Database) -> list[tuple[Any, ...]]:
    """Whatever of ours is in the database."""
    return database.execute(
        "SELECT nspname FROM pg_namespace WHERE nspname = 'pgevents' UNION ALL"
        " SELECT tgname FROM pg_trigger WHERE tgname LIKE '!pgevents%%' UNION ALL"
        " SELECT proname FROM pg_proc WHERE pronamespace = to_regnamespace('pgevents') "
    )


# --- install, status, uninstall


def test_install_status_uninstall(ready: Shop, database: Database) -> None:
    missing = run(ready.app, "status")
    assert missing.exit_code == 1
    assert "public.Tickets" in missing.output
    assert "Run: flask pgevents install" in missing.output
    installed = run(ready.app, "install")
    assert installed.exit_code == 0
    assert run(ready.app, "install").exit_code == 0  # again: nothing to do
    status = run(ready.app, "status")
    assert status.exit_code == 0
    assert status.output.split() == [
        "schema",
        "pgevents",
        "current",
        "public.Tickets",
        "current",
        "public.orders",
        "current",
    ]
    assert run(ready.app, "uninstall").exit_code == 0
    assert run(ready.app, "status").exit_code == 1
    everything = run(ready.app, "uninstall", "--all")
    assert (everything.exit_code, everything.output) == (0, "Removed everything.\n")
    assert ours(database) == []
    assert run(ready.app, "uninstall", "--all").exit_code == 0


def test_one_table_of_several(ready: Shop, database: Database) -> None:
    assert run(ready.app, "install", "orders").exit_code == 0
    words = json.loads(run(ready.app, "status", "--json").output)["tables"]
    assert words == {"public.Tickets": "missing", "public.orders": "current"}
    run(ready.app, "install")
    removed = run(ready.app, "uninstall", "public.Tickets")
    assert removed.output == "Removed: public.Tickets.\n"
    assert json.loads(run(ready.app, "status", "--json").output)["complete"] is False


def test_status_for_programs(ready: Shop, database: Database) -> None:
    before = run(ready.app, "status", "--json")
    assert before.exit_code == 1
    assert json.loads(before.output) == {
        "schema": "missing",
        "tables": {"public.Tickets": "missing", "public.orders": "missing"},
        "orphans": [],
        "complete": False,
    }
    run(ready.app, "install", "orders", "Tickets", "lines")
    after = run(ready.app, "status", "--json")
    assert after.exit_code == 0
    assert json.loads(after.output)["orphans"] == ["public.lines"]
    assert "orphan: captured, but no longer declared" in run(ready.app, "status").output
    database.execute('ALTER TABLE orders DISABLE TRIGGER "!pgevents_row"')
    assert run(ready.app, "status", "--json").exit_code == 1


def test_a_table_that_is_not_there_yet_is_no_failure(shop: Shop) -> None:
    shop.events.on_insert(shop.Order)(print)
    shop.register()
    assert run(shop.app, "install").exit_code == 0
    assert json.loads(run(shop.app, "status", "--json").output)["tables"] == {"public.orders": "absent"}


# --- sql


def test_the_ddl_is_printed_without_connecting_and_psql_runs_it(ready: Shop, database: Database) -> None:
    app = Flask("elsewhere", root_path=".")
    app.config["SQLALCHEMY_DATABASE_URI"] = UNREACHABLE
    events = PGEvents()
    events.on_insert("orders")(print)
    events.init_app(app)
    began = time.monotonic()
    printed = run(app, "sql")
    assert (printed.exit_code, time.monotonic() - began < 8) == (0, True)  # an attempt to connect takes ten
    feed(database, printed.output)
    words = json.loads(run(ready.app, "status", "--json").output)["tables"]
    assert words == {"public.orders": "current", "public.Tickets": "missing"}
    feed(database, run(app, "sql", "--uninstall", "orders").output)
    assert [name for (name,) in ours(database) if name.startswith("!")] == []
    feed(database, run(app, "sql").output)
    feed(database, run(app, "sql", "--uninstall").output)
    assert ours(database) == []


def feed(database: Database, script: str) -> None:
    command = [*database.psql_command(), "-v", "ON_ERROR_STOP=1", "-q"]
    subprocess.run(command, input=script, text=True, check=True, capture_output=True, timeout=30)


# --- Mistakes


@pytest.mark.parametrize("command", [["install"], ["uninstall", "--all"], ["status"], ["sql"], ["tail"]])
def test_without_a_blueprint_it_says_what_to_do(command: list[str]) -> None:
    result = run(Flask("bare", root_path="."), *command)
    assert result.exit_code == 1
    assert "app.register_blueprint(pgevents_bp)" in result.output


@pytest.mark.parametrize("command", ["install", "uninstall", "sql", "tail"])
def test_what_is_no_table_name_is_a_message_and_no_traceback(command: str, ready: Shop) -> None:
    result = run(ready.app, command, "a.b.c")
    assert result.exit_code == 1
    assert "'a.b.c' is not a table name" in result.output


@pytest.mark.parametrize("command", [["install"], ["uninstall", "--all"], ["status"], ["tail"]])
def test_a_server_that_is_not_there_is_a_message_without_the_password(command: list[str], tmp_path: Path) -> None:
    app = Flask("shop", root_path=".")
    app.config["PGEVENTS_DATABASE_URL"] = f"postgresql+psycopg2://u:s3cret@/d?host={tmp_path}"
    events = PGEvents(app)
    events.on_insert("orders")(print)
    result = run(app, *command)
    assert result.exit_code == 1
    assert result.output.startswith("Error: ")
    assert "s3cret" not in result.output


@pytest.mark.parametrize("command", ["install", "uninstall"])
def test_a_misspelt_table_is_an_error(command: str, ready: Shop) -> None:
    run(ready.app, "install", "orders")
    result = run(ready.app, command, "tickets")  # it is called Tickets
    assert result.exit_code == 1
    assert "No such table in the database: public.tickets" in result.output
    assert "Removed" not in result.output
    assert "orphan" not in result.output  # orders is declared, although it was not named here


def test_tail_says_why_nothing_will_come(ready: Shop) -> None:
    result = run(ready.app, "tail")
    assert (result.exit_code, "Run: flask pgevents install" in result.output) == (1, True)
    run(ready.app, "install", "orders")
    result = run(ready.app, "tail", "tickets", "orders", "--since", "garbage")
    assert "public.tickets is absent: nothing of it will be shown." in result.output
    assert "public.orders is" not in result.output


@pytest.mark.parametrize("since", ["garbage", "abcdefabcdef~5:5:"])
def test_a_cursor_that_is_none_or_of_another_database(since: str, ready: Shop) -> None:
    run(ready.app, "install")
    result = run(ready.app, "tail", "--since", since)
    assert result.exit_code == 1
    assert "cursor" in result.output


# --- A second instance


def test_a_second_instance_is_named_by_its_blueprint(
    make_shop: MakeShop, database: Database, second_database: Database
) -> None:
    shop = make_shop(AUDIT_PGEVENTS_DATABASE_URL=second_database.url)
    audit = PGEvents(config_prefix="AUDIT_PGEVENTS")
    shop.create_all()
    shop.events.on_insert(shop.Order)(print)
    audit.on_insert("entries")(print)
    second_database.execute("CREATE TABLE entries (id int PRIMARY KEY)")
    shop.register()
    audit.init_app(shop.app)
    assert run(shop.app, "install", "--instance", "audit_pgevents").exit_code == 0
    assert json.loads(run(shop.app, "status", "--json").output)["tables"] == {"public.orders": "missing"}
    words = json.loads(run(shop.app, "status", "--json", "--instance", "audit_pgevents").output)["tables"]
    assert words == {"public.entries": "current"}
    unknown = run(shop.app, "status", "--instance", "audit")
    assert unknown.exit_code == 1
    assert "There is: pgevents, audit_pgevents" in unknown.output


# --- tail


APP = """
import os
from flask import Flask
from pgevents_push import on_insert, pgevents_bp
from pgevents_push.cli import pgevents
app = Flask(__name__)
app.config["PGEVENTS_DATABASE_URL"] = os.environ["DATABASE"]
on_insert("orders")(print)
app.register_blueprint(pgevents_bp)
app.cli.add_command(pgevents)  # as the entry point does, also where the package is not installed
"""


class Tail:
    """`flask pgevents tail` as a process; `lines` is what it printed so far."""

    def __init__(self, database: Database, directory: Path, *arguments: str) -> None:
        (directory / "shop_app.py").write_text(APP)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "flask", "--app", "shop_app", "pgevents", "tail", *arguments],
            cwd=directory,
            env={**os.environ, "DATABASE": database.url, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines: list[str] = []
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._changed:
                self.lines.append(line.rstrip("\n"))
                self._changed.notify()

    def until(self, count: int) -> list[str]:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.lines) >= count, 60), self.lines
        return self.lines

    def close(self) -> None:
        self.process.send_signal(signal.SIGINT)
        self.process.wait(60)
        self._reader.join(60)
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture
def tails() -> Iterator[list[Tail]]:
    started: list[Tail] = []
    yield started
    for tail in started:
        tail.close()


def until_listening(database: Database, count: int) -> None:
    deadline = time.monotonic() + 60
    # Idle: who is still asking where the log stands may get the answer of later.
    query = (
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = %s AND state = 'idle' AND strpos(query, 'pgevents.emptied') > 0"
    )
    while database.execute(query, database.name) < [(count,)]:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_tail_prints_changes_as_they_are_committed(
    ready: Shop, database: Database, tmp_path: Path, tails: list[Tail]
) -> None:
    run(ready.app, "install")
    tails += [Tail(database, tmp_path), Tail(database, tmp_path, "orders", "--json")]
    until_listening(database, 2)
    database.execute("""INSERT INTO "Tickets" VALUES ('00000000-0000-0000-0000-000000000001', 'x')""")
    database.execute("INSERT INTO orders VALUES (9007199254740993 - 9007199254740992, 'open', 3)")
    [text], [line] = (tail.until(1) for tail in tails)
    assert "insert" in text
    assert 'public.orders  {"id":1}' in text
    assert json.loads(line)["row"] == {"id": 1, "status": "open", "total": 3}
    tails[0].process.send_signal(signal.SIGINT)
    tails[0].process.wait(60)
    assert "Traceback" not in "\n".join(tails[0].lines)


def test_tail_goes_on_after_a_cursor(ready: Shop, database: Database, tmp_path: Path, tails: list[Tail]) -> None:
    run(ready.app, "install")
    since = str(read_position(database.execute))
    database.execute("INSERT INTO orders (id) VALUES (1), (2)")
    tails.append(Tail(database, tmp_path, "--since", since))
    assert len(tails[0].until(2)) == 2


def test_tail_says_that_the_log_does_not_reach_back(
    ready: Shop, database: Database, tmp_path: Path, tails: list[Tail]
) -> None:
    run(ready.app, "install")
    database.execute("UPDATE pgevents.retention SET seconds = 0.001, since = '2020-01-01'")
    since = str(read_position(database.execute))
    write_old(database, 4)
    assert [p.emptied for p in pruned(database)] == [True]
    tails.append(Tail(database, tmp_path, "--since", since))
    [line] = tails[0].until(1)
    assert "Error: Changes are missing" in line
    assert tails[0].process.wait(60) == 1
