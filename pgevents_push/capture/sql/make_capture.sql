-- Make a table's trigger function, or make it anew, and let the installer name it in CREATE TRIGGER. Its comment tells
-- for which columns it is made, its name how the table is captured. No lock on the table: who writes meanwhile takes the
-- old one or the new one.
CREATE OR REPLACE FUNCTION pgevents.make_capture_v1(
  target oid, of_schema text, of_table text, function_name text, shape text, installer text
) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
  signature text := 'pgevents.' || quote_ident(function_name) || '()';
BEGIN
  EXECUTE 'CREATE OR REPLACE FUNCTION ' || signature || ' RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER'
    || ' SET search_path = pg_catalog, pg_temp ' || pgevents.settings_v1(target)
    || ' AS ' || quote_literal(CASE split_part(function_name, '_', 3)
      WHEN 'statement' THEN pgevents.statement_source_v1(target, of_schema, of_table)
      WHEN 'key' THEN pgevents.key_source_v1(target, of_schema, of_table)
      ELSE pgevents.capture_source_v1(target, of_schema, of_table)
    END);
  EXECUTE 'REVOKE ALL ON FUNCTION ' || signature || ' FROM PUBLIC';
  EXECUTE 'GRANT EXECUTE ON FUNCTION ' || signature || ' TO ' || quote_ident(installer);
  EXECUTE 'COMMENT ON FUNCTION ' || signature || ' IS ' || quote_literal(shape);
END
$function$
