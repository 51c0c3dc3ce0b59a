-- Give everything to pgevents_owner where we may, take it from everybody else, and let the installer read.
DO $pgevents$
DECLARE
  heir text := current_user;
  thing text;
BEGIN
  IF EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'pgevents_owner')
    AND pg_catalog.pg_has_role('pgevents_owner', 'USAGE') THEN
    heir := 'pgevents_owner';
  END IF;
  FOR thing IN
    SELECT 'SCHEMA pgevents'
    UNION ALL (SELECT 'TABLE ' || c.oid::pg_catalog.regclass::text FROM pg_catalog.pg_class c
      WHERE c.relnamespace = 'pgevents'::pg_catalog.regnamespace AND c.relkind IN ('r', 'p') ORDER BY c.relname)
    UNION ALL (SELECT 'FUNCTION ' || p.oid::pg_catalog.regprocedure::text FROM pg_catalog.pg_proc p
      WHERE p.pronamespace = 'pgevents'::pg_catalog.regnamespace ORDER BY p.proname)
  LOOP
    EXECUTE 'ALTER ' || thing || ' OWNER TO ' || pg_catalog.quote_ident(heir);
    EXECUTE 'REVOKE ALL ON ' || thing || ' FROM PUBLIC';
  END LOOP;
  -- The rest is for grants.sql.
  EXECUTE 'GRANT USAGE ON SCHEMA pgevents TO ' || pg_catalog.quote_ident(current_user);
  EXECUTE 'GRANT SELECT ON pgevents.log TO ' || pg_catalog.quote_ident(current_user);
  EXECUTE 'GRANT EXECUTE ON FUNCTION pgevents.make_capture_v1(oid, text, text, text, text, text) TO '
    || pg_catalog.quote_ident(current_user);
END
$pgevents$
