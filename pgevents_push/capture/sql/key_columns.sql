-- The columns of a table's primary key, in key order; an empty array when it has none.
CREATE OR REPLACE FUNCTION pgevents.key_columns_v1(target pg_catalog.oid) RETURNS text[]
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $function$
  SELECT coalesce(array_agg(a.attname::text ORDER BY k.place), '{}')
  FROM pg_catalog.pg_index i
  CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY AS k (attnum, place)
  JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
  WHERE i.indrelid = target AND i.indisprimary AND k.place <= i.indnkeyatts
$function$
