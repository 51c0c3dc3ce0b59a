-- The expression that makes the key's JSON from a row's columns; the same text as in capture_source.sql.
CREATE OR REPLACE FUNCTION pgevents.key_query_v1(side text, keys text[], target oid) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $function$
  SELECT '''{'' || array_to_string(ARRAY[' || coalesce(string_agg(
    quote_literal(c.label || ':') || ' || to_json(' || pgevents.spelled_v1(c.spelled, side || quote_ident(key)) || ')::text', ', ' ORDER BY k.place
  ), '') || ']::text[], '','') || ''}'''
  FROM unnest(keys) WITH ORDINALITY AS k (key, place) JOIN pgevents.captured_columns_v1(target) AS c ON c.name = key
$function$
