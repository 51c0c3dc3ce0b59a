-- Let one more role read the log, and empty what is due of it.
DO $pgevents$
BEGIN
  EXECUTE 'GRANT USAGE ON SCHEMA pgevents TO ' || pg_catalog.quote_ident({role});
  EXECUTE 'GRANT SELECT ON pgevents.log, pgevents.installation, pgevents.retention, pgevents.emptied TO '
    || pg_catalog.quote_ident({role});
  EXECUTE 'GRANT EXECUTE ON FUNCTION pgevents.prune_v1() TO ' || pg_catalog.quote_ident({role});
END
$pgevents$
