"""A process that is forked under gevent runs copies of all greenlets: they leave the parent's events to the parent."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.fixtures.postgres import Database

ROWS = 50
_PROGRAM = """
from gevent import monkey
monkey.patch_all()
import json, os, sys, time
import psycopg2
from flask import Flask
from pgevents_push import PGEvents
from tests.fixtures.patience import wait_until

url, dsn, rows = sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3])
app, events, log = Flask("forking", root_path="."), PGEvents(), os.memfd_create("log")
app.config.update(SQLALCHEMY_DATABASE_URI=url, PGEVENTS_AUTOSTART=False)
events.on_insert("public.t")(lambda event: os.write(log, f"{os.getpid()} {event.pk['id']}\\n".encode()))
events.init_app(app)
events.start(app)
wait_until(lambda: events.runtime(app).status == "listening")
writer = psycopg2.connect(**dsn)
writer.autocommit = True
parent, child = os.getpid(), os.fork()
if not child:
    time.sleep(30)  # the hub runs meanwhile, and with it all that was copied
    os._exit(0)
for number in range(rows):
    writer.cursor().execute("INSERT INTO t VALUES (%s)", (number,))
    time.sleep(0.01)
written = lambda: os.pread(log, 1 << 20, 0).decode().splitlines()
try:
    wait_until(lambda: len(written()) >= rows, 30)
    print(json.dumps({"statuses": events.runtime(app).status, "parent": parent, "lines": written()}))
finally:
    os.kill(child, 9)
    events.stop(app)
"""


def test_a_forked_child_takes_nothing_from_its_parent(database: Database) -> None:
    database.execute("CREATE TABLE t (id int PRIMARY KEY)")
    arguments = [sys.executable, "-c", _PROGRAM, database.url, json.dumps(database.dsn), str(ROWS)]
    root = Path(__file__).parents[2]
    done = subprocess.run(arguments, cwd=root, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout)
    assert told["lines"] == [f"{told['parent']} {number}" for number in range(ROWS)]
    assert told["statuses"] == "listening"
    assert "reconnecting" not in done.stderr
