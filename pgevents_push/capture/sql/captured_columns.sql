-- The columns of a table, as the texts of trigger functions need them: `label` is the name as JSON, `place` the one in
-- the key, `as_type` a cast to the type that the column has, or `other_type`, its oid, see as_made_v1(); `compared` is how two values are told apart; `varies`: its size does; `spelled`: see spelled_v1().
-- to_json() calls the cast to json that a type's owner may have made, for parts of a value too, and it would run with the
-- rights of our functions. That is for those who may install, and superusers; else the value is told by its text, for
-- which PostgreSQL calls nothing of theirs.
CREATE OR REPLACE FUNCTION pgevents.captured_columns_v1(
  target oid, OUT attnum smallint, OUT name text, OUT label text, OUT place bigint, OUT as_type text,
  OUT other_type text, OUT compared text, OUT varies boolean, OUT spelled text
) RETURNS SETOF record
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $function$
  WITH RECURSIVE part (attnum, oid, is_array, depth) AS (
    SELECT a.attnum, a.atttypid, false, 0 FROM pg_attribute a
    WHERE a.attrelid = target AND a.attnum > 0 AND NOT a.attisdropped
    UNION
    SELECT part.attnum, below.oid, part.is_array OR t.typtype = 'b', part.depth + (t.typtype = 'c')::integer
    FROM part JOIN pg_type t ON t.oid = part.oid
    CROSS JOIN LATERAL (
      SELECT t.typbasetype WHERE t.typtype = 'd'
      UNION ALL SELECT t.typelem WHERE t.typcategory = 'A' AND t.typelem <> 0
      UNION ALL SELECT m.atttypid FROM pg_attribute m
        WHERE t.typtype = 'c' AND m.attrelid = t.typrelid AND m.attnum > 0 AND NOT m.attisdropped
    ) AS below (oid)
  ), strange AS (
    SELECT part.attnum, bool_or(t.typtype = 'c') OR max(part.depth) > 0 AS has_rows, bool_or(part.is_array) AS is_array
    FROM part JOIN pg_type t ON t.oid = part.oid GROUP BY part.attnum
    HAVING NOT bool_and(t.typnamespace = 'pg_catalog'::regnamespace OR t.typtype = 'd' OR has_function_privilege(
      t.typowner, 'pgevents.make_capture_v1(oid, text, text, text, text, text)', 'EXECUTE'
    ))
  )
  SELECT a.attnum, a.attname, to_json(a.attname::text)::text, k.place,
    CASE WHEN x.is_ours AND t.typcategory NOT IN ('A', 'C', 'E', 'R') THEN '::' || format_type(a.atttypid, -1) ELSE '' END,
    CASE WHEN NOT x.is_ours OR t.typcategory IN ('A', 'C', 'E', 'R') THEN a.atttypid::text END,
    CASE
      -- Of a collation for which different letters are equal.
      WHEN t.typname IN ('text', 'varchar') AND x.is_ours THEN 'letters'
      WHEN t.typname IN ('int2', 'int4', 'int8', 'bool', 'oid', 'uuid', 'bytea', 'date', 'time', 'timestamp', 'timestamptz')
        AND x.is_ours THEN 'values'
      -- Some types have no "=", and 1.0 = 1.00.
      ELSE 'images'
    END,
    a.attlen = -1,
    CASE WHEN s.attnum IS NULL THEN 'value' WHEN s.is_array AND NOT s.has_rows THEN 'texts' ELSE 'text' END
  FROM pg_attribute a
  JOIN pg_type t ON t.oid = a.atttypid
  CROSS JOIN LATERAL (SELECT t.typnamespace = 'pg_catalog'::regnamespace) AS x (is_ours)
  LEFT JOIN unnest(pgevents.key_columns_v1(target)) WITH ORDINALITY AS k (name, place) ON k.name = a.attname
  LEFT JOIN strange s ON s.attnum = a.attnum
  WHERE a.attrelid = target AND a.attnum > 0 AND NOT a.attisdropped
$function$
