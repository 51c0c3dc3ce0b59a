"""The server refuses: no connection is free, the password is another one, the database is gone, nobody is there.

The app tries again, ever less often and silently; its health and its log name the cause; and it goes on by itself.
"""

from __future__ import annotations

import http.client
import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from demo.postgres import Postgres
from tests.faults.everybody import KILL
from tests.faults.follower import Follower
from tests.fixtures import programs
from tests.fixtures.servers import WORKERS, Serving, free_port, serving

# A delay doubles from 0.05 to 5 s, of which by chance a part: about 6 attempts in this time, of two connections each.
TROUBLE_SECONDS = 4.0
MOST_CONNECTIONS = 24 * WORKERS
# That it reconnects, that nothing can be installed, and why. Then the same trouble is not told again.
MOST_LINES = 3 * WORKERS
# The longest delay is 5 s; the rest is what a busy machine adds.
BACK_SECONDS = 30.0
SETTINGS = {"max_connections": "20", "log_connections": "on"}
DATABASE = f"""
{programs.SCHEMA};
ALTER TABLE orders OWNER TO app; ALTER TABLE "Order Line" OWNER TO app; GRANT CREATE ON DATABASE shop TO app
"""


@dataclass
class Site:
    """A server that wants a password of the role `app`, which is no superuser, and the app."""

    postgres: Postgres
    served: Serving
    held: list[Any] = field(default_factory=list)

    def execute(self, *statements: str, dbname: str = "shop") -> None:
        execute(self.postgres, *statements, dbname=dbname)

    def health(self) -> tuple[int, dict[str, Any]]:
        connection = http.client.HTTPConnection("127.0.0.1", self.served.ports[0], timeout=30)
        connection.request("GET", "/pgevents/health")
        answer = connection.getresponse()
        status, body = answer.status, json.load(answer)
        connection.close()
        return status, body

    def all_are(self, word: str) -> None:
        self.served.until(lambda: set(self.served.statuses().values()) == {word}, BACK_SECONDS, self.served.statuses)

    def attempts(self) -> int:
        return self.postgres.log_file.read_text(errors="replace").count("connection received: host=127.0.0.1")


def connect(postgres: Postgres, dbname: str) -> Any:
    connection = psycopg2.connect(host=str(postgres.socket_dir), port=postgres.port, user="postgres", dbname=dbname)
    connection.autocommit = True
    return connection


def execute(postgres: Postgres, *statements: str, dbname: str) -> None:
    connection = connect(postgres, dbname)
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
    connection.close()


def make_database(postgres: Postgres) -> None:
    execute(postgres, "CREATE DATABASE shop", dbname="postgres")
    execute(postgres, DATABASE, dbname="shop")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    data = tmp_path_factory.mktemp("refuses") / "data"
    with Postgres(data_dir=data, port=free_port(), settings=SETTINGS) as postgres:
        execute(postgres, "CREATE ROLE app LOGIN PASSWORD 'one'", dbname="postgres")
        make_database(postgres)
        Path(data, "pg_hba.conf").write_text("local all all trust\nhost all app 127.0.0.1/32 scram-sha-256\n")
        execute(postgres, "SELECT pg_reload_conf()", dbname="postgres")
        url = f"postgresql+psycopg2://app:one@127.0.0.1:{postgres.port}/shop"
        with serving("gevent", url, connect_timeout_seconds=2.0) as served:
            yield Site(postgres, served)


def take_all(site: Site) -> None:
    with suppress(psycopg2.OperationalError):
        while True:
            site.held.append(connect(site.postgres, "postgres"))
    site.held[0].cursor().execute(re.sub("AND datname.*", "", KILL))


def give_back(site: Site) -> None:
    for connection in site.held:
        connection.close()
    site.held.clear()


def rotate(site: Site) -> None:
    site.execute("ALTER ROLE app PASSWORD 'two'", KILL)


def rotate_back(site: Site) -> None:
    site.execute("ALTER ROLE app PASSWORD 'one'")


def limit(site: Site) -> None:
    site.execute("ALTER ROLE app CONNECTION LIMIT 0", KILL)


def unlimit(site: Site) -> None:
    site.execute("ALTER ROLE app CONNECTION LIMIT -1")


def stop(site: Site) -> None:
    site.postgres.stop()


def start(site: Site) -> None:
    site.postgres.start()


def drop(site: Site) -> None:
    site.execute("DROP DATABASE shop WITH (FORCE)", dbname="postgres")


def make(site: Site) -> None:
    make_database(site.postgres)


Act = Callable[[Site], None]


@pytest.mark.parametrize(
    ("trouble", "end", "cause"),
    [
        (take_all, give_back, "(too many clients|remaining connection slots)"),
        (limit, unlimit, "too many connections for role"),
        (rotate, rotate_back, "password authentication failed"),
        (stop, start, "Connection refused"),
        (drop, make, "does not exist"),  # the last one: nobody goes on from before it
    ],
)
def test_it_tries_again_and_says_why(site: Site, trouble: Act, end: Act, cause: str) -> None:
    with Follower(site.served.ports[0]) as follower:
        trouble(site)
        try:
            site.all_are("reconnecting")
            check_trouble(site, cause)
        finally:
            end(site)
        began = time.monotonic()
        site.all_are("listening")
        print(f"{trouble.__name__}: goes on after {time.monotonic() - began:.1f} s")
        if trouble is drop:
            follower.until("bye")
            assert follower.bye["reason"] == "lost"
            return
        site.execute("INSERT INTO orders (id) SELECT coalesce(max(id), 0) + 1 FROM orders")
        while not follower.changes:
            assert follower.read()
        assert not {"bye", "gap"} & set(follower.others)
    assert site.health()[1]["status"] == "listening"
    assert "cause" not in site.health()[1]


def check_trouble(site: Site, cause: str) -> None:
    """The cause is told, once by each worker, and without names to outsiders; then there is silence."""
    is_there = trouble_is_seen(site)
    before, printed = site.attempts() if is_there else 0, len(site.served.printed())
    deadline = time.monotonic() + TROUBLE_SECONDS
    site.served.until(lambda: time.monotonic() > deadline, 2 * TROUBLE_SECONDS, site.served.statuses)
    if is_there:
        assert 0 < site.attempts() - before < MOST_CONNECTIONS
    said = site.served.printed()[printed:]
    assert len(said.splitlines()) <= MOST_LINES, said
    assert re.search(cause, site.served.printed())
    status, body = site.health()
    assert status == 503
    assert re.search(cause, body["cause"]), body
    assert not re.search("app|shop|127.0.0.1|postgres", body["cause"]), body


def trouble_is_seen(site: Site) -> bool:
    """Whether there is a server that sees the attempts."""
    try:
        return site.postgres.log_file.exists()
    except RuntimeError:
        return False
