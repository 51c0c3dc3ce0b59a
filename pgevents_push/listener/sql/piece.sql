-- The next rows of one transaction.
-- Parameters: xid, id, last_id, limit.
SELECT l.id, l.xid::text, %(last_id)s, l.schema_name, l.table_name, l.type::text,
       l.pk, l.old_pk, l.new_row, l.old_row, l.changed, l.actor, l.truncated,
       to_char(l.at, 'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"')
FROM pgevents.log AS l
WHERE l.xid = (%(xid)s)::xid8 AND l.id > %(id)s
ORDER BY l.id
LIMIT %(limit)s
