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
  IF pg_catalog.to_regnamespace('pgevents') IS NOT NULL THEN
    RETURN;
  END IF;
  CREATE SCHEMA pgevents;
  -- ALTER DEFAULT PRIVILEGES may have let others in, who would read the rows of every captured table in the log.
  -- Only now: later it may have been granted on purpose, to a reader.
  FOR other IN
    SELECT DISTINCT pg_catalog.pg_get_userbyid(a.grantee)
    FROM pg_catalog.pg_namespace n, pg_catalog.aclexplode(n.nspacl) AS a
    WHERE n.nspname = 'pgevents' AND a.grantee NOT IN (0, n.nspowner)
  LOOP
    EXECUTE 'REVOKE ALL ON SCHEMA pgevents FROM ' || pg_catalog.quote_ident(other);
  END LOOP;
END
$pgevents$
