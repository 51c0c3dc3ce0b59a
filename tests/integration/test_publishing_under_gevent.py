"""Under gevent nobody runs in the middle of a publication, so that all of it is one write for each courier."""

from __future__ import annotations

import json
import subprocess

from tests.fixtures.servers import ROOT, python

SCRIPT = """
from gevent import monkey
monkey.patch_all()
import json
import gevent
from pgevents_push.event import CHANGE_TYPES, TableName
from pgevents_push.hub import Hub, View
from pgevents_push.testing import make_event

table = TableName("public", "orders")
view = View(table, frozenset(CHANGE_TYPES), None, None, lambda event, view: event.id.encode())
hub = Hub()
hub.publish([], "ab~1:1:")
taken, turns = [], []

def carry(mailbox):
    while frames := mailbox.take(5):
        taken.append(b"".join(frames).decode())

def tick():
    while True:
        gevent.sleep(0)
        turns.append(1)

for _ in range(50):
    mailbox = hub.connect(10**6)
    hub.subscribe(mailbox, [view], 0)
    gevent.spawn(carry, mailbox)
gevent.sleep(0.01)
gevent.spawn(tick)
gevent.sleep(0)
before = len(turns)
hub.publish([make_event(table, "insert").replace(id=str(n)) for n in range(8)], "ab~2:2:")
turned = len(turns) - before
gevent.sleep(0.05)
print(json.dumps([taken, turned]))
"""


def test_nobody_runs_in_the_middle_of_a_publication() -> None:
    done = subprocess.run(python("-c", SCRIPT), cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    taken, turned = json.loads(done.stdout)
    assert taken == ["01234567"] * 50
    assert turned == 0
