-- Seconds since the oldest change in the log: the first one along its index.
SELECT extract(epoch FROM pg_catalog.clock_timestamp() - l.at)::float8 FROM pgevents.log AS l ORDER BY l.xid, l.id LIMIT 1
