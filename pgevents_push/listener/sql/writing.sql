-- Who has an open transaction that wrote, or may have written, the log, and whether it is a prepared one. A writer
-- keeps this lock until its changes are visible. Partitions do not matter: the parent is locked as well.
SELECT virtualtransaction, pid IS NULL FROM pg_catalog.pg_locks
WHERE locktype = 'relation' AND relation = pg_catalog.to_regclass('pgevents.log')
  AND database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
  AND mode = 'RowExclusiveLock' AND granted
