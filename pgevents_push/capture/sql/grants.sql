-- What those need who were let in, also by a version before this one, which had less: who may read the log empties what is
-- due of it, revokes identities and spends tickets; who may make trigger functions, or before there was one for each
-- table run capture_v1(), may make triggers. Only who may use the schema was let in: rights on what is in it may come
-- from ALTER DEFAULT PRIVILEGES, see schema.sql.
DO $pgevents$
DECLARE
  guest text;
  let_in oid[] := ARRAY(
    SELECT a.grantee FROM pg_catalog.pg_namespace n CROSS JOIN LATERAL pg_catalog.aclexplode(n.nspacl) AS a
    WHERE n.nspname = 'pgevents' AND a.privilege_type = 'USAGE'
  );
BEGIN
  FOR guest IN
    SELECT DISTINCT pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(a.grantee))
    FROM pg_catalog.pg_class c CROSS JOIN LATERAL pg_catalog.aclexplode(c.relacl) AS a
    WHERE c.oid = 'pgevents.log'::pg_catalog.regclass AND a.privilege_type = 'SELECT'
      AND a.grantee = ANY (let_in) AND a.grantee NOT IN (0, c.relowner)
  LOOP
    EXECUTE 'GRANT SELECT ON pgevents.installation, pgevents.retention, pgevents.emptied TO ' || guest;
    EXECUTE 'GRANT EXECUTE ON FUNCTION pgevents.prune_v1(), pgevents.revoke_v1(text), pgevents.spend_v1(text) TO ' || guest;
  END LOOP;
  FOR guest IN
    SELECT DISTINCT pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(a.grantee))
    FROM pg_catalog.pg_proc p CROSS JOIN LATERAL pg_catalog.aclexplode(p.proacl) AS a
    WHERE p.pronamespace = 'pgevents'::pg_catalog.regnamespace AND p.proname IN ('make_capture_v1', 'capture_v1')
      AND a.grantee = ANY (let_in) AND a.grantee NOT IN (0, p.proowner)
  LOOP
    EXECUTE 'GRANT EXECUTE ON FUNCTION pgevents.key_columns_v1(oid), pgevents.begin_v1(text, text), pgevents.tidy_v1(),'
      || ' pgevents.opened_v1(),'
      || ' pgevents.make_capture_v1(oid, text, text, text, text, text) TO ' || guest;
  END LOOP;
END
$pgevents$
