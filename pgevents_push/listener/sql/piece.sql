-- The next rows of some transactions, which are given in order: as many as fit, at least one. {change} is change.sql.
-- Parameters: xids, id (of the last row that is known of the first one), limit, bytes.
SELECT {change}
FROM (
    SELECT l.*, t.place, coalesce(sum(
        octet_length(coalesce(l.new_row, '')) + octet_length(coalesce(l.old_row, ''))
    ) OVER (ORDER BY t.place, l.id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS bytes_before
    FROM unnest((%(xids)s)::xid8[]) WITH ORDINALITY AS t (xid, place)
    CROSS JOIN LATERAL (
        SELECT * FROM pgevents.log AS r WHERE r.xid = t.xid AND (t.place > 1 OR r.id > %(id)s)
        ORDER BY r.id LIMIT %(limit)s
    ) AS l
) AS l
WHERE l.bytes_before < %(bytes)s
ORDER BY l.place, l.id
LIMIT %(limit)s
