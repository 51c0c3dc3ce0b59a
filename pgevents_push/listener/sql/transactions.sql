-- The transactions between two snapshots, in causal order: how a batch that is too large to be held is read
-- piece by piece. Here the upper snapshot is a value, so this statement and those after it may run later.
-- The third column tells the transaction that holds a given event: where an interrupted reading goes on.
-- Parameters: xmax, xip, until, last_id.
SELECT l.xid::text, max(l.id), bool_or(l.id = %(last_id)s)
FROM pgevents.log AS l
WHERE (l.xid >= (%(xmax)s)::xid8 OR l.xid = ANY ((%(xip)s)::xid8[]))
  AND pg_visible_in_snapshot(l.xid, (%(until)s)::pg_snapshot)
GROUP BY l.xid
ORDER BY max(l.id)
