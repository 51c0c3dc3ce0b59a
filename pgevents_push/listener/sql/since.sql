-- What became visible after a snapshot, and the snapshot that says so.
-- Both come from ONE statement, so from one snapshot of PostgreSQL: with two, what commits in between is lost.
-- Candidates are found by the index on (xid, id): everything from xmax(cursor) on, and the transactions that
-- were still running then. A statement sees only what is committed, so no further visibility test is needed.
-- Whole transactions in the order of their greatest id: a transaction that wrote a row after another one had
-- committed holds a greater id than all of that one, so this order is causal. The order of xids is not: an xid is
-- given at the first write.
-- When there are more than `limit` rows none is returned, only their number.
-- Parameters: xmax, xip, limit.
WITH now AS MATERIALIZED (
    SELECT pg_current_snapshot()::text AS snapshot
), tx AS MATERIALIZED (
    SELECT c.xid, max(c.id) AS last_id, count(*) AS n
    FROM (
        SELECT l.xid, l.id FROM pgevents.log AS l WHERE l.xid >= (%(xmax)s)::xid8
        UNION ALL
        SELECT l.xid, l.id FROM pgevents.log AS l WHERE l.xid = ANY ((%(xip)s)::xid8[])
    ) AS c
    GROUP BY c.xid
), fresh AS MATERIALIZED (
    SELECT coalesce(sum(n), 0) AS n FROM tx
)
SELECT now.snapshot, fresh.n <= %(limit)s, e.*
FROM now CROSS JOIN fresh LEFT JOIN LATERAL (
    SELECT l.id, l.xid::text, tx.last_id, l.schema_name, l.table_name, l.type::text,
           l.pk, l.old_pk, l.new_row, l.old_row, l.changed, l.actor, l.truncated,
           to_char(l.at, 'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"')
    FROM tx CROSS JOIN LATERAL (SELECT * FROM pgevents.log AS r WHERE r.xid = tx.xid ORDER BY r.id) AS l
    WHERE fresh.n <= %(limit)s
    ORDER BY tx.last_id, l.id
) AS e ON true
