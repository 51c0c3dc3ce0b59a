-- Let one more role read the log; grants.sql gives it the rest.
DO $pgevents$
BEGIN
  EXECUTE 'GRANT USAGE ON SCHEMA pgevents TO ' || pg_catalog.quote_ident({role});
  EXECUTE 'GRANT SELECT ON pgevents.log TO ' || pg_catalog.quote_ident({role});
END
$pgevents$
