-- The test whether a row, `whole`, has the columns that a table has now, in whatever order time will bring. Their values,
-- with `prefix`, make a row that is the same, unless it has another number of columns, or one is of another type: then
-- comparing them is an error, or false.
-- Their types are asked for only where others can make some of the kind: arrays, composite types, enums, ranges. Elsewhere a
-- cast to the type costs nothing, within it coalesce() with a NULL of that type: it is an error with a type of another kind,
-- for which the cast would call what that type's owner made, with the rights of our functions.
CREATE OR REPLACE FUNCTION pgevents.as_made_v1(whole text, prefix text, target oid) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $function$
  SELECT 'ROW('
    || coalesce(string_agg(CASE as_type WHEN '' THEN prefix || quote_ident(name)
      ELSE 'coalesce(' || prefix || quote_ident(name) || ', NULL' || as_type || ')' || as_type END, ', ' ORDER BY attnum), '')
    || ')::record *= ' || whole
    || coalesce(string_agg(' AND pg_typeof(' || prefix || quote_ident(name) || ')::oid = ' || other_type, '' ORDER BY attnum), '')
  FROM pgevents.captured_columns_v1(target)
$function$
