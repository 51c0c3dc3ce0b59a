-- What became visible after a snapshot, and the snapshot that says so.
-- Both come from ONE statement, so from one snapshot of PostgreSQL: with two, what commits in between is lost.
-- Candidates are found by the index on (xid, id): everything from xmax(cursor) on, and the transactions that
-- were still running then. A statement sees only what is committed, so no further visibility test is needed.
-- Whole transactions in the order of their greatest id: a transaction that wrote a row after another one had
-- committed holds a greater id than all of that one, so this order is causal. The order of xids is not: an xid is
-- given at the first write.
-- When there are more than `limit` rows, or more than `bytes` of text, none is returned, only that it does not fit.
-- Parameters: xmax, xip, limit, bytes.
WITH now AS MATERIALIZED (
    SELECT pg_current_snapshot()::text AS snapshot
), tx AS MATERIALIZED (
    SELECT c.xid, max(c.id) AS last_id, count(*) AS n
    FROM (
        -- The upper bound is for rows that pg_dump brought from another cluster, whose xids are yet to come here.
        SELECT l.xid, l.id FROM pgevents.log AS l
        WHERE l.xid >= (%(xmax)s)::xid8 AND l.xid < pg_snapshot_xmax(pg_current_snapshot())
        UNION ALL
        SELECT l.xid, l.id FROM pgevents.log AS l WHERE l.xid = ANY ((%(xip)s)::xid8[])
    ) AS c
    GROUP BY c.xid
), fresh AS MATERIALIZED (
    SELECT coalesce(sum(tx.n), 0) <= %(limit)s AS few FROM tx
), size AS MATERIALIZED (
    -- octet_length() knows the length of a large text without fetching it.
    SELECT fresh.few AND coalesce((
        SELECT sum(octet_length(coalesce(r.new_row, '')) + octet_length(coalesce(r.old_row, '')))
        FROM tx CROSS JOIN LATERAL (SELECT * FROM pgevents.log AS q WHERE q.xid = tx.xid ORDER BY q.id) AS r
        WHERE fresh.few
    ), 0) <= %(bytes)s AS fits
    FROM fresh
)
SELECT now.snapshot, size.fits, e.*
FROM now CROSS JOIN size LEFT JOIN LATERAL (
    SELECT l.id, l.xid::text, tx.last_id, l.schema_name, l.table_name, l.type::text,
           l.pk, l.old_pk, l.new_row, l.old_row, l.changed, l.actor, l.truncated,
           to_char(l.at, 'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"')
    FROM tx CROSS JOIN LATERAL (SELECT * FROM pgevents.log AS r WHERE r.xid = tx.xid ORDER BY r.id) AS l
    WHERE size.fits
    ORDER BY tx.last_id, l.id
) AS e ON true
