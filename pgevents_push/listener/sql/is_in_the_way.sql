-- Whether somebody waits for a lock on a table that this transaction has locked: an ALTER TABLE, and then everybody who
-- came behind it.
SELECT EXISTS (
    SELECT FROM pg_catalog.pg_locks AS ours
    JOIN pg_catalog.pg_locks AS theirs ON theirs.relation = ours.relation AND theirs.database = ours.database
    WHERE ours.pid = pg_backend_pid() AND ours.granted AND NOT theirs.granted
)
