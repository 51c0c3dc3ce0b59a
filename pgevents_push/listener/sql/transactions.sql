-- The transactions between two snapshots, in causal order: how a batch that is too large to be held is read
-- piece by piece. Here the upper snapshot is a value, so this statement and those after it may run later.
-- The third column tells the transaction that holds a given event: where an interrupted reading goes on.
-- Parameters: xmax, xip, until, last_id.
SELECT c.xid::text, max(c.id), bool_or(c.id = %(last_id)s)
FROM (
    SELECT l.xid, l.id FROM pgevents.log AS l WHERE l.xid >= (%(xmax)s)::xid8
    UNION ALL
    SELECT l.xid, l.id FROM pgevents.log AS l WHERE l.xid = ANY ((%(xip)s)::xid8[])
) AS c
WHERE pg_visible_in_snapshot(c.xid, (%(until)s)::pg_snapshot)
GROUP BY c.xid
ORDER BY max(c.id)
