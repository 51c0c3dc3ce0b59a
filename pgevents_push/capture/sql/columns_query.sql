-- The query that takes key, old key, changed columns and their old values from $1 (the new row) and $2 (the old
-- row) column by column, for rows whose JSON is not to be parsed. All names in it come from the catalog.
CREATE OR REPLACE FUNCTION pgevents.columns_query_v1(target oid, keys text[], with_values boolean) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $function$
  SELECT 'SELECT ' || new_key.pairs || ', ' || old_key.pairs || ', ' || columns.changed || ', '
    || CASE WHEN with_values THEN columns.old_values ELSE 'NULL' END
  FROM pgevents.key_query_v1('($1).', keys) AS new_key (pairs),
    pgevents.key_query_v1('($2).', keys) AS old_key (pairs),
    LATERAL (
      SELECT
        '''['' || array_to_string(ARRAY[' || string_agg(differs || quote_literal(name) || ' END', ', ' ORDER BY attnum)
          || ']::text[], '','') || '']''' AS changed,
        '''{'' || array_to_string(ARRAY[' || string_agg(differs || quote_literal(name || ':') || ' || coalesce(to_json(($2).'
          || quote_ident(attname) || ')::text, ''null'') END', ', ' ORDER BY attnum) || ']::text[], '','') || ''}''' AS old_values
      FROM (
        SELECT attnum, attname, to_json(attname::text)::text AS name,
          'CASE WHEN ROW(($1).' || quote_ident(attname) || ')::record *<> ROW(($2).' || quote_ident(attname)
            || ')::record THEN ' AS differs
        FROM pg_attribute WHERE attrelid = target AND attnum > 0 AND NOT attisdropped
      ) AS each
    ) AS columns
$function$
