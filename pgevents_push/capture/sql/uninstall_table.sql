-- Stop capturing one table. What is in the log stays.
DO $pgevents$
DECLARE
  place text := pg_catalog.quote_ident({schema}) || '.' || pg_catalog.quote_ident({table});
  ours name;
BEGIN
  IF pg_catalog.to_regclass(place) IS NOT NULL THEN
    FOR ours IN
      SELECT t.tgname FROM pg_catalog.pg_trigger t WHERE t.tgrelid = pg_catalog.to_regclass(place)
        AND t.tgparentid = 0 AND pg_catalog.starts_with(t.tgname, '!pgevents_')
    LOOP
      EXECUTE 'DROP TRIGGER ' || pg_catalog.quote_ident(ours) || ' ON ' || place;
    END LOOP;
  END IF;
  -- The owner of a table may stop it without any right in our schema; then its function waits for the next installer.
  IF EXISTS (
    SELECT FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
    WHERE n.nspname = 'pgevents' AND p.proname = 'tidy_v1'
      AND pg_catalog.has_schema_privilege(n.oid, 'USAGE') AND pg_catalog.has_function_privilege(p.oid, 'EXECUTE')
  ) THEN
    PERFORM pgevents.tidy_v1();
  END IF;
END
$pgevents$
