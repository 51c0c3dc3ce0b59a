-- The expression that makes a row's JSON by a function: of the whole row, or of its columns, of which `prefix` is in front.
CREATE OR REPLACE FUNCTION pgevents.row_query_v1(maker text, whole text, prefix text, target oid) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $function$
  SELECT CASE WHEN coalesce(bool_and(spelled = 'value'), true) THEN maker || '(' || whole || ')'
    ELSE '(SELECT ' || maker || '(r.*) FROM (SELECT '
      || string_agg(pgevents.spelled_v1(spelled, prefix || quote_ident(name)) || ' AS ' || quote_ident(name), ', ' ORDER BY attnum)
      || ') AS r)'
    END
  FROM pgevents.captured_columns_v1(target)
$function$
