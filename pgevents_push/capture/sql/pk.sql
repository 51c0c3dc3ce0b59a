-- The key of a row as a JSON object in key order; NULL when one of the columns is not in the row.
CREATE OR REPLACE FUNCTION pgevents.pk_v1(source json, keys text[]) RETURNS text
LANGUAGE plpgsql IMMUTABLE
AS $function$
DECLARE
  key text;
  pairs text := '';
BEGIN
  FOREACH key IN ARRAY keys LOOP
    pairs := pairs || ',' || pg_catalog.to_json(key)::text || ':' || (source OPERATOR(pg_catalog.->) key)::text;
  END LOOP;
  RETURN '{' || pg_catalog.substr(pairs, 2) || '}';
END
$function$
