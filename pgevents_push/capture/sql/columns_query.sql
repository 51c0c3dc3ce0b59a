-- The query that takes key, old key, changed columns and their old values from $1 (the new row) and $2 (the old
-- row) column by column, for rows whose JSON is not to be parsed. All names in it come from the catalog.
CREATE OR REPLACE FUNCTION pgevents.columns_query_v1(target oid, keys text[], with_values boolean) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $function$
  SELECT 'SELECT ' || new_key.pairs || ', ' || old_key.pairs || ', ' || columns.changed || ', '
    || CASE WHEN with_values THEN columns.old_values ELSE 'NULL' END
  FROM pgevents.key_query_v1('($1).', keys, target) AS new_key (pairs),
    pgevents.key_query_v1('($2).', keys, target) AS old_key (pairs),
    LATERAL (
      SELECT
        '''['' || array_to_string(ARRAY[' || string_agg(differs || quote_literal(label) || ' END', ', ' ORDER BY attnum)
          || ']::text[], '','') || '']''' AS changed,
        '''{'' || array_to_string(ARRAY[' || string_agg(differs || quote_literal(label || ':') || ' || coalesce(to_json('
          || pgevents.spelled_v1(spelled, '($2).' || quote_ident(name)) || ')::text, ''null'') END', ', ' ORDER BY attnum) || ']::text[], '','') || ''}''' AS old_values
      FROM (
        SELECT attnum, name, label, spelled,
          'CASE WHEN ROW(($1).' || quote_ident(name) || ')::record *<> ROW(($2).' || quote_ident(name)
            || ')::record THEN ' AS differs
        FROM pgevents.captured_columns_v1(target)
      ) AS each
    ) AS columns
$function$
