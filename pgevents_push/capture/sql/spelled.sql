-- An expression as to_json() is to get it: itself, its text, or its elements' texts: see captured_columns_v1().
CREATE OR REPLACE FUNCTION pgevents.spelled_v1(spelled text, expression text) RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $function$
  SELECT CASE spelled
    WHEN 'value' THEN expression
    ELSE 'CASE WHEN ' || expression || ' IS DISTINCT FROM NULL THEN concat(' || expression || ') END'
      || CASE spelled WHEN 'texts' THEN '::text[]' ELSE '' END
  END
$function$
