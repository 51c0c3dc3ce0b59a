-- The expression that makes the key's JSON from a row's columns; the same text that pk_v1 takes from its JSON.
CREATE OR REPLACE FUNCTION pgevents.key_query_v1(side text, keys text[]) RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $function$
  SELECT '''{'' || array_to_string(ARRAY[' || coalesce(string_agg(
    quote_literal(to_json(key)::text || ':') || ' || to_json(' || side || quote_ident(key) || ')::text', ', ' ORDER BY place
  ), '') || ']::text[], '','') || ''}'''
  FROM unnest(keys) WITH ORDINALITY AS k (key, place)
$function$
