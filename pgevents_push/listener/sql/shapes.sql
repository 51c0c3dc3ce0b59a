-- The columns of some tables as they are now, each with the transactions that made it what it is: its catalog row, and
-- the labels of its enum. As long as these texts stay the same, so do the column's name, type and collation. A table
-- that is not there is missing. Types with a number below 16384 are PostgreSQL's own, and no enums.
-- Parameters: schemas, tables.
SELECT n.nspname, c.relname, (
    SELECT json_object_agg(a.attname, concat_ws('.', a.xmin, CASE WHEN a.atttypid >= 16384 THEN (
        SELECT string_agg(DISTINCT e.xmin::text, '.') FROM pg_enum AS e WHERE e.enumtypid = a.atttypid
    ) END))
    FROM pg_attribute AS a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
)
FROM ROWS FROM (unnest((%(schemas)s)::text[]), unnest((%(tables)s)::text[])) AS w (schema_name, table_name)
JOIN pg_namespace AS n ON n.nspname = w.schema_name
JOIN pg_class AS c ON c.relnamespace = n.oid AND c.relname = w.table_name
