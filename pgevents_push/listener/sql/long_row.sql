-- One row that was too long to come with the others. Over the cap it is the key alone, as in an event.
-- Filled in: names and expressions. Parameters: ctid, tableoid, most (bytes).
SELECT CASE WHEN octet_length(made.text) <= %(most)s THEN '{"pk":' || made.key || ',"row":' || made.text || '}'
       ELSE '{"pk":' || made.key || ',"row":null,"truncated":true}' END
FROM {table} AS t
CROSS JOIN LATERAL (
    SELECT (SELECT row_to_json(k.*)::text FROM {key} AS k) AS key,
           CASE WHEN {stored} <= %(most)s THEN (SELECT row_to_json(r.*)::text FROM {row} AS r) END AS text
    OFFSET 0
) AS made
WHERE t.ctid = %(ctid)s::tid AND t.tableoid = %(tableoid)s
