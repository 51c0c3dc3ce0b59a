-- A schema of our own. One that another role made may hold traps (a table "log" with triggers), so it is refused.
DO $pgevents$
DECLARE
  other text;
BEGIN
  SELECT pg_catalog.pg_get_userbyid(nspowner) INTO other FROM pg_catalog.pg_namespace
  WHERE nspname = 'pgevents' AND pg_catalog.pg_get_userbyid(nspowner) NOT IN (current_user, 'pgevents_owner');
  IF FOUND THEN
    RAISE insufficient_privilege USING MESSAGE = 'the schema pgevents belongs to the role ' || other;
  END IF;
  CREATE SCHEMA IF NOT EXISTS pgevents;
END
$pgevents$
