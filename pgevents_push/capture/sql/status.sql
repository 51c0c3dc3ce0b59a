-- What is installed, against what should be: one row for the schema, then one for each table. Takes no lock that
-- anybody waits for. A trigger is compared with its function, events and arguments as the catalog has them.
WITH wanted (schema_name, table_name) AS (
  SELECT * FROM ROWS FROM (
    pg_catalog.unnest(ARRAY[{schemas}]::text[]), pg_catalog.unnest(ARRAY[{tables}]::text[])
  )
), found AS (
  SELECT w.*, c.oid, c.relkind, c.relpersistence, c.relispartition,
    pg_catalog.convert_to(w.schema_name, e.name) || pg_catalog.decode('00', 'hex')
      || pg_catalog.convert_to(w.table_name, e.name) || pg_catalog.decode('00', 'hex')
      || coalesce((
        SELECT pg_catalog.string_agg(pg_catalog.convert_to(a.attname::text, e.name) || pg_catalog.decode('00', 'hex'), ''::bytea ORDER BY k.place)
        FROM pg_catalog.pg_index i
        CROSS JOIN LATERAL pg_catalog.unnest(i.indkey::int2[]) WITH ORDINALITY AS k (attnum, place)
        JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
        WHERE i.indrelid = c.oid AND i.indisprimary AND k.place <= i.indnkeyatts
      ), ''::bytea) AS arguments
  FROM wanted w
  CROSS JOIN (SELECT pg_catalog.getdatabaseencoding() AS name) e
  LEFT JOIN pg_catalog.pg_namespace n ON n.nspname = w.schema_name
  LEFT JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = w.table_name
    AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
), ours AS (
  SELECT t.tgrelid, t.tgname, t.tgtype, t.tgargs, t.tgenabled, t.tgparentid, p.proname
  FROM pg_catalog.pg_trigger t
  JOIN pg_catalog.pg_proc p ON p.oid = t.tgfoid
  JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
  WHERE n.nspname = 'pgevents' AND t.tgname IN ('!pgevents_row', '!pgevents_truncate')
)
SELECT f.schema_name, f.table_name,
  CASE
    WHEN f.oid IS NULL THEN 'absent'
    WHEN f.relkind NOT IN ('r', 'p') OR f.relpersistence = 't' THEN 'refused'
    WHEN f.schema_name IN ('pgevents', 'pg_catalog', 'information_schema', 'pg_toast') THEN 'refused'
    WHEN EXISTS (SELECT FROM ours WHERE tgrelid = f.oid AND tgparentid <> 0) THEN 'refused'
    WHEN NOT EXISTS (SELECT FROM ours WHERE tgrelid = f.oid) THEN 'missing'
    WHEN (
      -- 29: after, for each row, insert + update + delete; 32: after, for each statement, truncate
      SELECT pg_catalog.count(*) FROM ours WHERE tgrelid = f.oid AND proname = 'capture_v1' AND tgargs = f.arguments
        AND (tgname, tgtype) IN (('!pgevents_row', 29), ('!pgevents_truncate', 32))
    ) < 2 THEN 'outdated'
    WHEN EXISTS (SELECT FROM ours WHERE tgrelid = f.oid AND tgenabled IN ('D', 'R')) THEN 'disabled'
    ELSE 'current'
  END AS word,
  CASE
    WHEN f.relkind = 'v' THEN 'it is a view: name the table below it'
    WHEN f.relkind = 'm' THEN 'it is a materialized view: name the tables below it'
    WHEN f.relkind = 'f' THEN 'it is a foreign table: its rows change in another database'
    WHEN f.relpersistence = 't' THEN 'it is a temporary table'
    WHEN EXISTS (SELECT FROM ours WHERE tgrelid = f.oid AND tgparentid <> 0)
      THEN 'it is a partition whose parent is captured: its events carry the name of the parent'
    WHEN f.schema_name IN ('pgevents', 'pg_catalog', 'information_schema', 'pg_toast') THEN 'it is a system table'
  END AS reason
FROM found f
UNION ALL
SELECT n.nspname, c.relname, 'orphan', NULL
FROM ours
JOIN pg_catalog.pg_class c ON c.oid = ours.tgrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE ours.tgparentid = 0 AND ours.tgname = '!pgevents_row'
  AND (n.nspname::text, c.relname::text) NOT IN (SELECT schema_name, table_name FROM wanted)
