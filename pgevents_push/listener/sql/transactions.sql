-- The next transactions between two snapshots, in causal order: how a batch that is too large to be held is read
-- piece by piece. Here the upper snapshot is a value, so this statement and those after it may run later.
-- `holds` tells the transaction with a given event: where an interrupted reading goes on.
-- Parameters: xmax, xip, until, last_id (the event, or 0), after (the greatest id of the last one known), limit.
WITH tx AS MATERIALIZED (
    SELECT c.xid, max(c.id) AS last_id, count(*) AS n, bool_or(c.id = %(last_id)s) AS holds
    FROM (
        SELECT l.xid, l.id FROM pgevents.log AS l WHERE l.xid >= (%(xmax)s)::xid8
        UNION ALL
        SELECT l.xid, l.id FROM pgevents.log AS l WHERE l.xid = ANY ((%(xip)s)::xid8[])
    ) AS c
    WHERE pg_visible_in_snapshot(c.xid, (%(until)s)::pg_snapshot)
    GROUP BY c.xid
)
SELECT tx.xid::text, tx.last_id, tx.n, tx.holds
FROM tx
WHERE tx.last_id > %(after)s AND tx.last_id >= coalesce((SELECT h.last_id FROM tx AS h WHERE h.holds), 0)
ORDER BY tx.last_id
LIMIT %(limit)s
