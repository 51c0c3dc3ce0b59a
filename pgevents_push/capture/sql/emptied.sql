-- What is gone, for the question whether a cursor's changes are all still here. For each slot: the greatest xid that
-- was ever taken out of it, and a snapshot in which every transaction that lost rows had ended.
CREATE TABLE IF NOT EXISTS pgevents.emptied (
  slot smallint PRIMARY KEY,
  max_xid xid8 NOT NULL,
  snapshot pg_snapshot NOT NULL,
  at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
)
