-- The text of the trigger function of a table that is captured statement by statement. Like that for each row
-- (capture_source.sql) it is made for the columns that the table has now, and looks at the first row whether they are
-- still these, in a block of its own; if not, it asks the catalog for the statement that writes the log.
CREATE OR REPLACE FUNCTION pgevents.statement_source_v1(target oid, of_schema text, of_table text) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $function$
  SELECT $text$
DECLARE
  is_as_made boolean;
  has_rows boolean;
  written bigint := 0;
  kept text[];
BEGIN
  IF TG_OP = 'TRUNCATE' THEN
    INSERT INTO pgevents.log (schema_name, table_name, type, pk, actor)
    VALUES ($text$ || named || $text$, 't', '{}', nullif(current_setting('pgevents.actor', true), ''));
    written := 1;
  ELSE
    BEGIN
      IF TG_OP = 'DELETE' THEN
        SELECT $text$ || guard || $text$ INTO is_as_made FROM old_rows AS n LIMIT 1;
      ELSE
        SELECT $text$ || guard || $text$ INTO is_as_made FROM new_rows AS n LIMIT 1;
      END IF;
      has_rows := FOUND;
    EXCEPTION WHEN OTHERS THEN
      has_rows := true;
    END;
    IF NOT has_rows THEN
      NULL;
    ELSIF is_as_made IS NOT TRUE THEN
      kept := pgevents.spell_v1(NULL);
      EXECUTE pgevents.statement_query_v1(TG_RELID, $text$ || named || $text$, TG_OP);
      GET DIAGNOSTICS written = ROW_COUNT;
      PERFORM pgevents.spell_v1(kept);
    ELSIF TG_OP = 'UPDATE' THEN
      $text$ || pgevents.statement_query_v1(target, of_schema, of_table, 'UPDATE') || $text$;
      GET DIAGNOSTICS written = ROW_COUNT;
    ELSIF TG_OP = 'INSERT' THEN
      $text$ || pgevents.statement_query_v1(target, of_schema, of_table, 'INSERT') || $text$;
      GET DIAGNOSTICS written = ROW_COUNT;
    ELSE
      $text$ || pgevents.statement_query_v1(target, of_schema, of_table, 'DELETE') || $text$;
      GET DIAGNOSTICS written = ROW_COUNT;
    END IF;
    -- What opened_v1() noted: mostly this alone.
    IF current_setting(concat('pgevents.open_', TG_RELID), true) IS NOT DISTINCT FROM lower(left(TG_OP, 1) COLLATE "C") THEN
      PERFORM set_config(concat('pgevents.open_', TG_RELID), '', true);
    ELSE
      PERFORM pgevents.mixed_v1(TG_RELID, $text$ || named || $text$, TG_OP, pg_trigger_depth(), written);
    END IF;
  END IF;
  -- As in capture_source.sql.
  IF written > 0
    AND current_setting('pgevents.rang', true) IS DISTINCT FROM pg_current_xact_id()::text
    AND set_config('pgevents.rang', pg_current_xact_id()::text, true) IS NOT NULL
    AND NOT (pg_try_advisory_lock(7237125663275445356) AND pg_advisory_unlock(7237125663275445356))
  THEN
    PERFORM pgevents.ring_v1();
  END IF;
  RETURN NULL;
END
$text$
  FROM (
    SELECT quote_literal(of_schema) || ', ' || quote_literal(of_table) AS named,
      pgevents.as_made_v1('n.*', 'n.', target) AS guard
  ) AS part
$function$
