-- Drop the trigger functions that no table uses any more: it was dropped, or uninstalled, or has another name.
CREATE OR REPLACE FUNCTION pgevents.tidy_v1() RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
  unused text;
BEGIN
  FOR unused IN
    SELECT oid::regprocedure::text FROM pg_proc p
    WHERE pronamespace = 'pgevents'::regnamespace AND starts_with(proname, 'capture_v') AND prorettype = 'trigger'::regtype
      AND NOT EXISTS (SELECT FROM pg_trigger WHERE tgfoid = p.oid)
  LOOP
    EXECUTE 'DROP FUNCTION ' || unused;
  END LOOP;
END
$function$
