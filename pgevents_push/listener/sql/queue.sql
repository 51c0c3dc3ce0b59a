-- Whether somebody waits for the lock that a NOTIFY takes, one for the cluster, until its commit is on the disk.
SELECT EXISTS (
    SELECT FROM pg_catalog.pg_locks
    WHERE locktype = 'object' AND database = 0 AND classid = 'pg_catalog.pg_database'::pg_catalog.regclass AND objid = 0
      AND NOT granted
)
