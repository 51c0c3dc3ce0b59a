-- Where the log stands now: the snapshot, the greatest xid of a change that is or was in the log or of the installation
-- itself (so far the snapshot is proved by a commit), and which log it is. With the installation's xid a position before
-- the first change knows of all tables that were there already.
-- Which log: the cluster, its timeline, the database and the installation; and which transaction wrote the latter's row,
-- since a dump that is restored, in this database or beside it, brings the same name and another past.
-- The timeline: a standby that was promoted has it in its checkpoint only after minutes, until then in the other place.
-- Changes above today's xids are of another cluster: they came here in a dump. Rows hold the lower 32 bits of an xid.
SELECT pg_current_snapshot()::text,
       coalesce((
           SELECT n.xid FROM (
               (SELECT l.xid FROM pgevents.log AS l WHERE l.xid < pg_snapshot_xmax(pg_current_snapshot())
                ORDER BY l.xid DESC LIMIT 1)
               UNION ALL
               SELECT e.max_xid FROM pgevents.emptied AS e WHERE e.max_xid < pg_snapshot_xmax(pg_current_snapshot())
               UNION ALL
               SELECT (now.xmax - ((now.xmax - i.xmin::text::bigint) & 4294967295))::text::xid8
               FROM pgevents.installation AS i
               CROSS JOIN (SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint) AS now (xmax)
           ) AS n (xid) ORDER BY n.xid DESC LIMIT 1
       )::text, '0'),
       left(md5(concat_ws('/', (SELECT system_identifier FROM pg_control_system()),
                               (SELECT greatest(c.timeline_id, r.min_recovery_end_timeline)
                                FROM pg_control_checkpoint() AS c CROSS JOIN pg_control_recovery() AS r),
                               (SELECT oid FROM pg_database WHERE datname = current_database()),
                               (SELECT concat_ws('/', id, xmin) FROM pgevents.installation))), 12)
