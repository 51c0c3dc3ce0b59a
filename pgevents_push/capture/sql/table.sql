-- Capture one table. Its columns are looked up here, so nothing about the table needs to be known beforehand. Where
-- the triggers are right and only columns are others, the function is made anew without a lock on the table. The
-- names begin with "!" to fire before the application's triggers: those may change the row again. REPLACE keeps
-- readers going, where DROP would lock them out, and enables a trigger that was disabled. What is dropped are triggers of
-- another mode; who writes meanwhile waits, so that each row is captured by those before or by these. They go first: DROP
-- takes the stronger lock, and who had the weaker one before it would kill, or be killed by, somebody who has read and
-- now writes. No table of this name: nothing is done, it may come later.
DO $pgevents$
DECLARE
  place text := pg_catalog.quote_ident({schema}) || '.' || pg_catalog.quote_ident({table});
  target oid := pg_catalog.to_regclass(place);
  encoding name := pg_catalog.getdatabaseencoding();
  called bytea := pg_catalog.convert_to({schema}, encoding) || pg_catalog.decode('00', 'hex')
    || pg_catalog.convert_to({table}, encoding) || pg_catalog.decode('00', 'hex');
  arguments bytea := called;
  given text := '(' || pg_catalog.quote_literal({schema}) || ', ' || pg_catalog.quote_literal({table});
  key text;
  was_captured boolean;
  wanted record;
  other name;
BEGIN
  IF target IS NULL THEN
    RETURN;
  END IF;
  FOREACH key IN ARRAY pgevents.key_columns_v1(target) LOOP
    arguments := arguments || pg_catalog.convert_to(key, encoding) || pg_catalog.decode('00', 'hex');
    given := given || ', ' || pg_catalog.quote_literal(key);
  END LOOP;
  -- Under this name, until this moment, with nothing left out.
  was_captured := (
    SELECT pg_catalog.bit_or(tgtype) & 28 FROM pg_catalog.pg_trigger
    WHERE tgrelid = target AND tgname IN ('!pgevents_row', '!pgevents_insert', '!pgevents_update', '!pgevents_delete')
      AND tgenabled IN ('O', 'A') AND pg_catalog."position"(tgargs, called) = 1
  ) IS NOT DISTINCT FROM 28;
  PERFORM pgevents.make_capture_v1(target, {schema}, {table}, {function}, {shape}, current_user::text);
  IF (
    SELECT pg_catalog.count(*)
    FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_proc p ON p.oid = t.tgfoid
    JOIN {triggers} ON t.tgname = triggers.name AND t.tgtype = triggers.type AND p.proname = coalesce(triggers.function, {function})
    WHERE triggers.mode = {mode} AND t.tgrelid = target AND p.pronamespace = 'pgevents'::pg_catalog.regnamespace
      AND t.tgargs = arguments AND t.tgenabled IN ('O', 'A')
  ) = greatest(
    (SELECT pg_catalog.count(*) FROM {triggers} WHERE mode = {mode}),
    (SELECT pg_catalog.count(*) FROM pg_catalog.pg_trigger WHERE tgrelid = target AND pg_catalog.starts_with(tgname, '!pgevents_'))
  ) THEN
    RETURN;
  END IF;
  FOR other IN
    SELECT tgname FROM pg_catalog.pg_trigger WHERE tgrelid = target AND pg_catalog.starts_with(tgname, '!pgevents_')
      AND tgname NOT IN (SELECT name FROM {triggers} WHERE mode = {mode})
  LOOP
    EXECUTE 'DROP TRIGGER ' || pg_catalog.quote_ident(other) || ' ON ' || place;
  END LOOP;
  FOR wanted IN SELECT * FROM {triggers} WHERE mode = {mode} LOOP
    EXECUTE 'CREATE OR REPLACE TRIGGER ' || pg_catalog.quote_ident(wanted.name) || ' ' || wanted.events || ' ON ' || place
      || ' ' || wanted.how || ' EXECUTE FUNCTION pgevents.' || coalesce(wanted.function, {function}) || given || ')';
  END LOOP;
  PERFORM pgevents.tidy_v1();
  IF NOT was_captured THEN
    PERFORM pgevents.begin_v1({schema}, {table});
  END IF;
END
$pgevents$
