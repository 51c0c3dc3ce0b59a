-- The columns of one table as JSON shows them: of a domain its base type, of an array its element's.
-- Parameters: schema, name.
WITH RECURSIVE typed AS (
    SELECT a.attnum, a.attname::text AS name, a.attnotnull AS filled, t.oid AS type, false AS is_array,
           EXISTS (SELECT FROM pg_index AS i WHERE i.indrelid = c.oid AND i.indisprimary
                   AND a.attnum = ANY ((i.indkey::pg_catalog.int2[])[:i.indnkeyatts - 1])) AS in_key
    FROM pg_attribute AS a
    JOIN pg_class AS c ON c.oid = a.attrelid
    JOIN pg_namespace AS n ON n.oid = c.relnamespace
    JOIN pg_type AS t ON t.oid = a.atttypid
    WHERE n.nspname = %(schema)s AND c.relname = %(name)s AND a.attnum > 0 AND NOT a.attisdropped
    UNION ALL
    SELECT typed.attnum, typed.name, typed.filled OR t.typtype = 'd' AND t.typnotnull,
           CASE t.typtype WHEN 'd' THEN t.typbasetype ELSE t.typelem END, typed.is_array OR t.typtype <> 'd',
           typed.in_key
    FROM typed JOIN pg_type AS t ON t.oid = typed.type
    WHERE t.typtype = 'd' OR t.typcategory = 'A'
)
SELECT typed.name, typed.filled, typed.is_array,
       CASE WHEN t.typtype = 'c' THEN 'row' WHEN n.nspname = 'pg_catalog' THEN format_type(t.oid, NULL)
            WHEN EXISTS (SELECT FROM pg_cast AS k WHERE k.castsource = t.oid AND k.casttarget = 'json'::regtype)
            THEN 'json' ELSE 'text' END,
       ARRAY(SELECT e.enumlabel::text FROM pg_enum AS e WHERE e.enumtypid = t.oid ORDER BY e.enumsortorder),
       typed.in_key
FROM typed
JOIN pg_type AS t ON t.oid = typed.type
JOIN pg_namespace AS n ON n.oid = t.typnamespace
WHERE t.typtype <> 'd' AND t.typcategory <> 'A'
ORDER BY typed.attnum
