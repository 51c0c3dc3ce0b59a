"""Other programs: a closed set of commands that write to the same database and know nothing of Flask."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.engine import URL

DEADLINE_SECONDS = 15.0

PSYCOPG2 = """
import psycopg2
with psycopg2.connect("") as db, db.cursor() as cursor:
    cursor.execute("SELECT min(id) FROM orders WHERE status = %s", ["new"])
    cursor.execute("UPDATE orders SET status = %s WHERE id = %s", ["paid", *cursor.fetchone()])
    print(cursor.rowcount, "order paid")
"""
CSV = "Ida,Lantern,2,58.00\nJoan,Rope,4,50.00\nKatherine,Map,1,9.90\n"
INSERT = "INSERT INTO orders (customer, item, quantity, total)"
COPY = "COPY orders (customer, item, quantity, total) FROM STDIN (FORMAT csv)"
BULK = f"{INSERT} SELECT 'Customer ' || n, 'Map', n, n * 9.90 FROM generate_series(1, 25) AS n"
FIRST_ROWS = """INSERT INTO orders (customer, item, quantity, total, status) VALUES
  ('Ada', 'Compass', 1, 24.00, 'shipped'),
  ('Grace', 'Lantern', 2, 58.00, 'paid'),
  ('Edsger', 'Rope', 3, 37.50, 'paid'),
  ('Barbara', 'Map', 2, 19.80, 'new'),
  ('Donald', 'Compass', 1, 24.00, 'new')"""


@dataclass(frozen=True)
class Program:
    """A command that the page offers. It finds the database through PGHOST, PGPORT, PGUSER … of its environment."""

    label: str
    argv: tuple[str, ...]
    stdin: str = ""

    @property
    def command(self) -> str:
        """The line that one would type into a shell."""
        line = " ".join(_quoted(part) for part in self.argv)
        return f"{line} <<END\n{self.stdin}END" if self.stdin else line


def _quoted(part: str) -> str:
    # Double quotes read better around SQL, as long as the shell finds nothing to expand in between.
    if "'" in part and not set('"$`\\!') & set(part):
        return f'"{part}"'
    return shlex.quote(part)


def _psql(label: str, *statements: str, stdin: str = "") -> Program:
    options = [word for statement in statements for word in ("-c", statement)]
    return Program(label, ("psql", "-X", *options), stdin)


PYTHON = Path(sys.executable).name
PROGRAMS = {
    "psql": _psql("psql: INSERT", f"{INSERT} VALUES ('Grace', 'Compass', 1, 24.00)"),
    "psycopg2": Program("psycopg2: pay oldest", (PYTHON, "-c", PSYCOPG2)),
    "ship": _psql("psql: ship paid", "UPDATE orders SET status = 'shipped' WHERE status = 'paid'"),
    "copy": _psql("COPY: 3 rows", COPY, stdin=CSV),
    "bulk": _psql("INSERT … SELECT: 25", BULK),
    "rollback": _psql(
        "ROLLBACK: no trace",
        "BEGIN",
        f"{INSERT} VALUES ('Nobody', 'Rope', 1, 12.50)",
        "SELECT count(*) AS rows_inside FROM orders",
        "ROLLBACK",
    ),
    "clear": _psql("psql: delete shipped", "DELETE FROM orders WHERE status = 'shipped'"),
    "restart": _psql("TRUNCATE: start over", "BEGIN", "TRUNCATE orders", FIRST_ROWS, "COMMIT"),
}


def run(program: Program, database: URL) -> dict[str, object]:
    """Run it as a process of its own; return what it said and how long it took, in milliseconds."""
    started = time.monotonic()
    try:
        done = subprocess.run(
            program.argv,
            input=program.stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=DEADLINE_SECONDS,
            check=False,
            env=environment(database),
        )
        output, code = done.stdout, done.returncode
    except FileNotFoundError:
        output, code = f"{program.argv[0]} is not installed here.", 127
    except subprocess.TimeoutExpired:
        output, code = f"It took more than {DEADLINE_SECONDS:g} s and was ended.", 124
    took = round((time.monotonic() - started) * 1000)
    return {"command": program.command, "output": output.rstrip(), "code": code, "ms": took}


def environment(database: URL) -> dict[str, str]:
    """Say to libpq where the database is, so that no command line has to."""
    host = database.query.get("host") or database.host
    port = database.query.get("port") or database.port
    values = {
        "PGHOST": host,
        "PGPORT": port,
        "PGUSER": database.username,
        "PGPASSWORD": database.password,
        "PGDATABASE": database.database,
        "PGAPPNAME": "another program",
        "PGOPTIONS": "-c lock_timeout=5s",
    }
    # The interpreter of the demo first, so that `python` is the one that has psycopg2.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    return {**os.environ, **{name: str(value) for name, value in values.items() if value}, "PATH": path}
