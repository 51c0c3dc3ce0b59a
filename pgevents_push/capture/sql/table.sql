-- Capture one table. Its key is looked up here, so nothing about the table needs to be known beforehand. The
-- names begin with "!" to fire before the application's triggers: those may change the row again. REPLACE keeps
-- readers going, where DROP would lock them out, and enables a trigger that was disabled. No table of this name: nothing is done, it may come later.
DO $pgevents$
DECLARE
  place text := pg_catalog.quote_ident({schema}) || '.' || pg_catalog.quote_ident({table});
  arguments text := pg_catalog.quote_literal({schema}) || ', ' || pg_catalog.quote_literal({table});
  key text;
BEGIN
  IF pg_catalog.to_regclass(place) IS NULL THEN
    RETURN;
  END IF;
  FOREACH key IN ARRAY pgevents.key_columns_v1(pg_catalog.to_regclass(place)) LOOP
    arguments := arguments || ', ' || pg_catalog.quote_literal(key);
  END LOOP;
  EXECUTE 'CREATE OR REPLACE TRIGGER "!pgevents_row" AFTER INSERT OR UPDATE OR DELETE ON ' || place
    || ' FOR EACH ROW EXECUTE FUNCTION pgevents.capture_v1(' || arguments || ')';
  EXECUTE 'CREATE OR REPLACE TRIGGER "!pgevents_truncate" AFTER TRUNCATE ON ' || place
    || ' FOR EACH STATEMENT EXECUTE FUNCTION pgevents.capture_v1(' || arguments || ')';
END
$pgevents$
