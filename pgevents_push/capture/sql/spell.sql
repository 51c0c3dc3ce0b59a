-- Set all that decides how values become JSON, as settings.sql does, until the end of the transaction; return what it was, to
-- be set again. For a statement that has to be run where its transition tables are, in a function without these settings.
-- It has none of its own, which would take back what it does.
CREATE OR REPLACE FUNCTION pgevents.spell_v1(given text[]) RETURNS text[]
LANGUAGE plpgsql
AS $function$
DECLARE
  names CONSTANT text[] := ARRAY['TimeZone', 'DateStyle', 'IntervalStyle', 'extra_float_digits', 'bytea_output'];
  wanted CONSTANT text[] := coalesce(given, ARRAY['UTC', 'ISO, YMD', 'postgres', '1', 'hex']);
  before text[];
BEGIN
  FOR place IN 1 .. 5 LOOP
    before[place] := pg_catalog.current_setting(names[place]);
    PERFORM pg_catalog.set_config(names[place], wanted[place], true);
  END LOOP;
  RETURN before;
END
$function$
