"""Whether a cursor lost something to the emptying of old slots: never silently, and never said without need."""

from __future__ import annotations

from pgevents_push.listener import Connection, read_position, read_since
from tests.fixtures.postgres import Database
from tests.fixtures.ring import OLD_ROWS, kept, now, pruned, slot, write_old, xid


def test_the_record_and_the_emptiness_are_seen_together(ring: Database) -> None:
    write_old(ring, 4)
    before = now(ring)
    write_old(ring, 4)
    pruner = ring.connect(autocommit=False).cursor()
    pruner.execute("SELECT * FROM pgevents.prune_v1()")
    assert kept(ring, before)  # not committed: nothing is gone yet
    pruner.connection.rollback()
    assert kept(ring, before)
    assert ring.execute("SELECT count(*) FROM pgevents.log") == [(2,)]
    pruned(ring)
    assert not kept(ring, before)
    assert kept(ring, now(ring))


def test_a_cursor_after_everything_emptied_is_kept_and_one_before_is_not(ring: Database) -> None:
    before = now(ring)
    write_old(ring, 4)
    after = now(ring)
    assert kept(ring, before)
    pruned(ring)
    assert not kept(ring, before)
    assert kept(ring, after)
    write_old(ring, 4)  # emptied again and again, the greatest counts
    pruned(ring)
    assert not kept(ring, after)


def test_a_long_transaction_is_a_gap_for_nobody(ring: Database) -> None:
    """It runs through: cursors that have it in flight are kept, before and after its end; what it wrote is read."""
    long = ring.connect(autocommit=False).cursor()
    number = xid(long)
    write_old(ring, 4)
    during = now(ring)
    assert number in during.xip
    pruned(ring)
    assert kept(ring, during)  # `xmin > greatest xid` would say no
    long.execute("INSERT INTO t VALUES (1)")
    long.connection.commit()
    assert kept(ring, during)
    connection = Connection(ring.dsn, 5)
    position = read_position(connection.execute)
    cursor = type(position)(position.epoch, during)
    events = [event for batch in read_since(connection.execute, cursor, 10) for event in batch.events]
    assert [event.tx for event in events] == [str(number)]
    connection.close()


def test_the_loss_of_a_long_transaction_is_not_silent(ring: Database) -> None:
    """The cursor stands after all others, but the one that it has in flight was emptied since."""
    long = ring.connect(autocommit=False).cursor()
    long.execute(OLD_ROWS.format(slot=slot(ring, 4), n=1))
    write_old(ring, 4)
    during = now(ring)
    long.connection.commit()
    assert kept(ring, during)
    pruned(ring)
    assert not kept(ring, during)  # `xmax > greatest xid` would say yes
    assert kept(ring, now(ring))


def test_what_was_rolled_back_is_missed_by_nobody(ring: Database) -> None:
    long = ring.connect(autocommit=False).cursor()
    long.execute(OLD_ROWS.format(slot=slot(ring, 4), n=1))
    write_old(ring, 4)
    during = now(ring)
    long.connection.rollback()
    pruned(ring)
    assert kept(ring, during)


def test_a_forged_cursor_is_answered(ring: Database) -> None:
    write_old(ring, 4)
    pruned(ring)
    greatest = 2**64 - 1
    for text in (
        "1:1:",
        "1:2:1",
        f"1:{greatest}:",
        f"1:{greatest}:1,2,3,{greatest - 1}",
        f"5:{greatest}:5,{2**40 + 1}",
    ):
        assert kept(ring, text) in (True, False)
    assert not kept(ring, "1:1:")


def test_a_record_of_another_cluster_means_nothing(ring: Database) -> None:
    """It comes along in a dump; believed, it would be a gap for everybody until its xid is reached."""
    ring.execute(
        "INSERT INTO pgevents.emptied (slot, max_xid, snapshot) VALUES (0, '999999999', '999999999:999999999:')"
    )
    assert kept(ring, now(ring))
