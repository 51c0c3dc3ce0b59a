-- The columns of a table in its order: how each is written, whether it has no value in an event (a virtual generated
-- one), whether its values may be long, and its place in the primary key. No row: the table is gone.
-- Parameters: oid.
SELECT a.attname::text, quote_ident(a.attname), a.attgenerated = 'v', a.attlen = -1, k.place::int
FROM pg_catalog.pg_attribute AS a
LEFT JOIN pg_catalog.pg_index AS i ON i.indrelid = a.attrelid AND i.indisprimary
LEFT JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY AS k (attnum, place)
    ON k.attnum = a.attnum AND k.place <= i.indnkeyatts
WHERE a.attrelid = %(oid)s AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attnum
