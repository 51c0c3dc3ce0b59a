-- What is installed, against what should be: one row for the schema, then one for each table. Takes no lock that
-- anybody waits for. A trigger is compared with its function, events and arguments as the catalog has them, and its
-- function's comment with the table's columns. One of a newer version is left alone. What writes nothing under the name
-- of its table comes before "outdated", which is as good as current to who reads the log: "missing" is also a trigger of a
-- table that has been renamed.
-- Triggers for each statement are refused where they would miss changes, tell of others, or tell them in another order.
WITH wanted (schema_name, table_name, function_name, mode) AS (
  SELECT * FROM ROWS FROM (
    pg_catalog.unnest(ARRAY[{schemas}]::text[]), pg_catalog.unnest(ARRAY[{tables}]::text[]),
    pg_catalog.unnest(ARRAY[{functions}]::text[]), pg_catalog.unnest(ARRAY[{modes}]::text[])
  )
), found AS (
  SELECT w.*, c.oid, c.relkind, c.relpersistence, c.relispartition,
    named.bytes || coalesce((
        SELECT pg_catalog.string_agg(pg_catalog.convert_to(a.attname::text, e.name) || pg_catalog.decode('00', 'hex'), ''::bytea ORDER BY k.place)
        FROM pg_catalog.pg_index i
        CROSS JOIN LATERAL pg_catalog.unnest(i.indkey::int2[]) WITH ORDINALITY AS k (attnum, place)
        JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
        WHERE i.indrelid = c.oid AND i.indisprimary AND k.place <= i.indnkeyatts
      ), ''::bytea) AS arguments,
    named.bytes AS named, {shape} AS shape
  FROM wanted w
  CROSS JOIN (SELECT pg_catalog.getdatabaseencoding() AS name) e
  CROSS JOIN LATERAL (
    SELECT pg_catalog.convert_to(w.schema_name, e.name) || pg_catalog.decode('00', 'hex')
      || pg_catalog.convert_to(w.table_name, e.name) || pg_catalog.decode('00', 'hex') AS bytes
  ) AS named
  LEFT JOIN pg_catalog.pg_namespace n ON n.nspname = w.schema_name
  LEFT JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = w.table_name
    AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
), ours AS (
  SELECT t.tgrelid, t.tgname, t.tgtype, t.tgargs, t.tgenabled, t.tgparentid, p.proname,
    pg_catalog.obj_description(p.oid, 'pg_proc') AS made_for,
    pg_catalog.substring(p.proname, '^capture_v([0-9]+)_')::int > {version} AS is_newer
  FROM pg_catalog.pg_trigger t
  JOIN pg_catalog.pg_proc p ON p.oid = t.tgfoid
  JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
  WHERE n.nspname = 'pgevents' AND pg_catalog.starts_with(t.tgname, '!pgevents_')
), judged AS (
  SELECT f.*, CASE
    WHEN f.mode = 'key' AND NOT EXISTS (SELECT FROM pg_catalog.pg_index WHERE indrelid = f.oid AND indisprimary)
      THEN 'it has no primary key, which is all that capture="key" writes down: add one'
    WHEN f.mode <> 'statement' THEN NULL
    WHEN f.relkind = 'p' THEN 'it is partitioned, and writes to a partition would be missed: ' || cure
    WHEN f.relispartition THEN 'it is a partition, and writes through its parent would be missed: ' || cure
    WHEN EXISTS (SELECT FROM pg_catalog.pg_inherits WHERE inhrelid = f.oid)
      THEN 'it inherits from a table, and writes through that one would be missed: ' || cure
    WHEN EXISTS (SELECT FROM pg_catalog.pg_inherits WHERE inhparent = f.oid)
      THEN 'others inherit from it, whose rows would be taken for its own: ' || cure
    WHEN EXISTS (SELECT FROM pg_catalog.pg_subscription_rel WHERE srrelid = f.oid)
      THEN 'a subscription writes it, which fires triggers for each row only: ' || cure
    -- PostgreSQL has room for 1,664 in a list, and of an UPDATE each is there three times.
    WHEN (SELECT pg_catalog.count(*) FROM pg_catalog.pg_attribute WHERE attrelid = f.oid AND attnum > 0 AND NOT attisdropped) > 500
      THEN 'it has more than 500 columns, too many for one statement that compares old and new rows: ' || cure
    ELSE 'its own trigger ' || (
      SELECT pg_catalog.quote_ident(pg_catalog.min(t.tgname)) FROM pg_catalog.pg_trigger t
      WHERE t.tgrelid = f.oid AND NOT t.tgisinternal AND t.tgtype & 3 = 1 AND t.tgenabled <> 'D'
        AND NOT pg_catalog.starts_with(t.tgname, '!pgevents_')
    ) || ' runs after each row, and what it writes would come before the change that it follows: ' || cure
  END AS unfit
  FROM found f, (SELECT 'declare it without capture="statement"' AS cure) AS c
)
SELECT f.schema_name, f.table_name,
  CASE
    WHEN f.oid IS NULL THEN 'absent'
    WHEN f.relkind NOT IN ('r', 'p') OR f.relpersistence = 't' THEN 'refused'
    WHEN f.schema_name IN ('pgevents', 'pg_catalog', 'information_schema', 'pg_toast') THEN 'refused'
    WHEN EXISTS (SELECT FROM ours WHERE tgrelid = f.oid AND tgparentid <> 0) OR f.unfit IS NOT NULL THEN 'refused'
    WHEN NOT EXISTS (SELECT FROM ours WHERE tgrelid = f.oid) THEN 'missing'
    WHEN EXISTS (SELECT FROM ours WHERE tgrelid = f.oid AND tgenabled IN ('D', 'R')) THEN 'disabled'
    WHEN EXISTS (
      SELECT FROM ours WHERE tgrelid = f.oid AND NOT is_newer
        AND pg_catalog.substring(tgargs, 1, pg_catalog.octet_length(f.named)) <> f.named
    ) THEN 'missing'
    WHEN (
      SELECT pg_catalog.count(*) FROM ours o JOIN {triggers} ON o.tgname = triggers.name AND o.tgtype = triggers.type
      WHERE o.tgrelid = f.oid AND triggers.mode = f.mode AND (
        o.is_newer OR o.tgargs = f.arguments AND (
          o.proname = triggers.function OR triggers.function IS NULL AND o.proname = f.function_name AND o.made_for = f.shape
        )
      )
    ) < greatest(
      (SELECT pg_catalog.count(*) FROM {triggers} WHERE mode = f.mode), (SELECT pg_catalog.count(*) FROM ours WHERE tgrelid = f.oid)
    ) THEN 'outdated'
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
    ELSE f.unfit
  END AS reason
FROM judged f
UNION ALL
SELECT n.nspname, c.relname, 'orphan', NULL
FROM ours
JOIN pg_catalog.pg_class c ON c.oid = ours.tgrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE ours.tgparentid = 0 AND ours.tgname IN ('!pgevents_row', '!pgevents_insert')
  AND (n.nspname::text, c.relname::text) NOT IN (SELECT schema_name, table_name FROM wanted)
