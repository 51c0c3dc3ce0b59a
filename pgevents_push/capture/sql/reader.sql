-- Let one more role read the log.
DO $pgevents$
BEGIN
  EXECUTE 'GRANT USAGE ON SCHEMA pgevents TO ' || pg_catalog.quote_ident({role});
  EXECUTE 'GRANT SELECT ON pgevents.log, pgevents.installation TO ' || pg_catalog.quote_ident({role});
END
$pgevents$
