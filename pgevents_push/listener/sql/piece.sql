-- The next rows of some transactions, which are given in order with their greatest ids: as many as fit, at least one.
-- Parameters: xids, last_ids, id (of the last row that is known of the first one), limit, bytes.
SELECT p.id, p.xid::text, p.last_id, p.schema_name, p.table_name, p.type::text,
       p.pk, p.old_pk, p.new_row, p.old_row, p.changed, p.actor, p.truncated,
       to_char(p.at, 'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"')
FROM (
    SELECT l.*, t.place, t.last_id, coalesce(sum(
        octet_length(coalesce(l.new_row, '')) + octet_length(coalesce(l.old_row, ''))
    ) OVER (ORDER BY t.place, l.id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS bytes_before
    FROM ROWS FROM (unnest((%(xids)s)::xid8[]), unnest((%(last_ids)s)::bigint[]))
        WITH ORDINALITY AS t (xid, last_id, place)
    CROSS JOIN LATERAL (
        SELECT * FROM pgevents.log AS r WHERE r.xid = t.xid AND (t.place > 1 OR r.id > %(id)s)
        ORDER BY r.id LIMIT %(limit)s
    ) AS l
) AS p
WHERE p.bytes_before < %(bytes)s
ORDER BY p.place, p.id
LIMIT %(limit)s
