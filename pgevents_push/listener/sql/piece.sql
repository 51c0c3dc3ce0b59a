-- The next rows of some transactions, which are given in order with their greatest ids. More than one: whole.
-- Parameters: xids, last_ids, id (of the last row that is known of the first one), limit.
SELECT l.id, l.xid::text, t.last_id, l.schema_name, l.table_name, l.type::text,
       l.pk, l.old_pk, l.new_row, l.old_row, l.changed, l.actor, l.truncated,
       to_char(l.at, 'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"')
FROM ROWS FROM (unnest((%(xids)s)::xid8[]), unnest((%(last_ids)s)::bigint[])) WITH ORDINALITY AS t (xid, last_id, place)
CROSS JOIN LATERAL (
    SELECT * FROM pgevents.log AS r WHERE r.xid = t.xid AND (t.place > 1 OR r.id > %(id)s)
    ORDER BY r.id LIMIT %(limit)s
) AS l
ORDER BY t.place, l.id
LIMIT %(limit)s
