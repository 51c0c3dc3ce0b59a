-- The statement that writes the changes of one statement into the log, from its transition tables old_rows and new_rows,
-- in their order. It says of each row what the trigger for each row (capture_source.sql) says.
-- An UPDATE adds each row to both tables, at the same place: that pairs them, also where the key changed. Joined in full,
-- because such a join never becomes a loop in a loop: PostgreSQL knows nothing of these tables, and keeps the plan that it
-- made when they had one row.
-- Each level is fenced off by OFFSET 0 or ORDER BY: what is used twice is computed once. Columns have numbers instead of
-- names there, and so none that is in the way.
CREATE OR REPLACE FUNCTION pgevents.statement_query_v1(target oid, of_schema text, of_table text, operation text)
RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $function$
  WITH col AS (
    SELECT attnum, quote_ident(name) AS name, quote_literal(label || ':') AS label, quote_literal(label) AS word, place, compared, varies, spelled
    FROM pgevents.captured_columns_v1(target)
  ), half AS (
    -- Of the old row and of the new one: as they come, `o.name`, and numbered, `o1`.
    SELECT side,
      coalesce('concat(''{'', concat_ws('','', ' || string_agg(label || ' || to_json(' || pgevents.spelled_v1(spelled, side || '.' || name) || ')::text', ', '
        ORDER BY place) FILTER (WHERE place IS NOT NULL) || '), ''}'')', '''{}''') AS pk,
      coalesce('concat(''{'', concat_ws('','', ' || string_agg(label || ' || to_json(' || pgevents.spelled_v1(spelled, side || attnum) || ')::text', ', '
        ORDER BY place) FILTER (WHERE place IS NOT NULL) || '), ''}'')', '''{}''') AS numbered_pk,
      -- Where this is false the JSON is made with care.
      concat_ws(' + ', '0', string_agg('coalesce(pg_column_size(' || side || '.' || name || '), 0)', ' + ') FILTER (WHERE varies))
        || ' <= 65536' AS is_short,
      concat_ws(' + ', '0', string_agg('coalesce(pg_column_size(' || side || attnum || '), 0)', ' + ') FILTER (WHERE varies))
        || ' <= 65536' AS numbered_is_short,
      string_agg(side || '.' || name || ' AS ' || side || attnum, ', ') AS numbered,
      string_agg(side || attnum, ', ') AS numbers,
      '(SELECT concat(row_to_json(r.*)) FROM (SELECT ' || string_agg(pgevents.spelled_v1(spelled, side || attnum) || ' AS ' || name, ', ' ORDER BY attnum) || ') AS r)'
        AS json,
      '(SELECT pgevents.long_json_v1(r.*) FROM (SELECT ' || string_agg(pgevents.spelled_v1(spelled, side || attnum) || ' AS ' || name, ', ' ORDER BY attnum) || ') AS r)'
        AS long_json
    FROM (VALUES ('o'), ('n')) AS s (side) CROSS JOIN col GROUP BY side
  ), pair AS (
    SELECT
      string_agg(
        CASE compared
          WHEN 'images' THEN 'ROW(o' || attnum || ')::record *<> ROW(n' || attnum || ')::record'
          ELSE 'o' || attnum || ' IS DISTINCT FROM n' || attnum || CASE compared WHEN 'letters' THEN ' COLLATE "C"' ELSE '' END
        END || ' AS d' || attnum, ', '
      ) AS differences,
      string_agg('d' || attnum, ' OR ' ORDER BY attnum) AS differs,
      coalesce(string_agg('d' || attnum, ' OR ') FILTER (WHERE place IS NOT NULL), 'false') AS key_differs,
      -- Arrays, because a function takes no more than 100 arguments.
      'concat(''['', array_to_string(ARRAY[' || string_agg('CASE WHEN d' || attnum || ' THEN ' || word || ' END', ', ' ORDER BY attnum)
        || ']::text[], '',''), '']'')' AS changed,
      'concat(''{'', array_to_string(ARRAY[' || string_agg('CASE WHEN d' || attnum || ' THEN concat(' || label || ', coalesce(to_json('
        || pgevents.spelled_v1(spelled, 'o' || attnum) || ')::text, ''null'')) END', ', ' ORDER BY attnum) || ']::text[], '',''), ''}'')' AS old_values,
      count(place) > 0 AS has_key
    FROM col
  ), head (into_log, actor) AS (
    SELECT 'INSERT INTO pgevents.log (schema_name, table_name, type, pk, old_pk, new_row, old_row, changed, actor, truncated) SELECT '
        || quote_literal(of_schema) || ', ' || quote_literal(of_table) || ', ',
      '(SELECT nullif(current_setting(''pgevents.actor'', true), ''''))'
  )
  SELECT coalesce(CASE
  -- PostgreSQL has room for 1,664 in a list. Such a table is refused, but may become one later, and writers must go on.
  WHEN operation = 'UPDATE' AND (SELECT count(*) FROM col) > 500 THEN
    'INSERT INTO pgevents.log (schema_name, table_name, type, pk) SELECT ' || quote_literal(of_schema) || ', ' || quote_literal(of_table)
      || ', ''g'', ''{}'' FROM new_rows LIMIT 1'
  WHEN operation = 'UPDATE' THEN
    into_log || '''u'', pk, old_pk, CASE WHEN fits THEN new_row END, CASE WHEN fits THEN old_row END, changed, ' || actor || ', NOT fits
    FROM (
      SELECT pk, old_pk, new_row, old_row, changed, CASE
          WHEN new_row IS NULL OR old_row IS NULL THEN false
          WHEN octet_length(new_row) + octet_length(old_row) <= pgevents.max_row_bytes_v1() THEN true
          ELSE greatest(octet_length(new_row), octet_length(' || old.json || ')) <= pgevents.max_row_bytes_v1()
        END AS fits
      FROM (
        SELECT ' || old.numbers || ', ' || new.numbered_pk || ' AS pk,
          CASE WHEN ' || key_differs || ' THEN ' || old.numbered_pk || ' END AS old_pk,
          CASE WHEN ' || new.numbered_is_short || ' THEN ' || new.json || ' ELSE ' || new.long_json || ' END AS new_row,
          CASE WHEN ' || old.numbered_is_short || ' OR ' || old.long_json || ' IS NOT NULL
            THEN ' || CASE WHEN has_key THEN old_values ELSE old.json END || ' END AS old_row,
          ' || changed || ' AS changed
        FROM (
          SELECT ' || old.numbers || ', ' || new.numbers || ', ' || differences || '
          FROM (SELECT row_number() OVER () AS place, ' || old.numbered || ' FROM old_rows AS o) AS o
          FULL JOIN (SELECT row_number() OVER () AS place, ' || new.numbered || ' FROM new_rows AS n) AS n USING (place)
          ORDER BY place
        ) AS pair
        WHERE ' || differs || ' OFFSET 0
      ) AS made OFFSET 0
    ) AS event'
  ELSE
    into_log || quote_literal(lower(left(operation, 1) COLLATE "C")) || ', pk, NULL, '
      || CASE WHEN operation = 'DELETE' THEN 'NULL, ' ELSE '' END
      || 'CASE WHEN octet_length(json) <= pgevents.max_row_bytes_v1() THEN json END, '
      || CASE WHEN operation = 'INSERT' THEN 'NULL, ' ELSE '' END
      || '''[]'', ' || actor || ', (octet_length(json) <= pgevents.max_row_bytes_v1()) IS NOT TRUE
    FROM (
      SELECT ' || new.pk || ' AS pk, CASE WHEN ' || new.is_short || ' THEN concat('
        || pgevents.row_query_v1('row_to_json', 'n.*', 'n.', target) || ') ELSE '
        || pgevents.row_query_v1('pgevents.long_json_v1', 'n.*', 'n.', target) || ' END AS json
      FROM ' || CASE operation WHEN 'INSERT' THEN 'new_rows' ELSE 'old_rows' END || ' AS n OFFSET 0
    ) AS made'
  END, 'INSERT INTO pgevents.log (pk) SELECT NULL WHERE false')  -- a table without columns has rows, but nothing to tell of them
  FROM head CROSS JOIN pair LEFT JOIN half AS old ON old.side = 'o' LEFT JOIN half AS new ON new.side = 'n'
$function$
