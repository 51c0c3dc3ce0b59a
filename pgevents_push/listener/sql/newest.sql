-- The greatest xid in the log: all transactions up to it are known to be committed, or to have been rolled back.
-- Changes above today's xids are of another cluster: they came here in a dump.
SELECT l.xid::text FROM pgevents.log AS l WHERE l.xid < pg_snapshot_xmax(pg_current_snapshot())
ORDER BY l.xid DESC LIMIT 1
