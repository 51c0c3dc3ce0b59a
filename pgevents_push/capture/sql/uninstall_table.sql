-- Stop capturing one table. What is in the log stays.
DO $pgevents$
DECLARE
  place text := pg_catalog.quote_ident({schema}) || '.' || pg_catalog.quote_ident({table});
BEGIN
  IF pg_catalog.to_regclass(place) IS NOT NULL THEN
    EXECUTE 'DROP TRIGGER IF EXISTS "!pgevents_row" ON ' || place;
    EXECUTE 'DROP TRIGGER IF EXISTS "!pgevents_truncate" ON ' || place;
  END IF;
END
$pgevents$
