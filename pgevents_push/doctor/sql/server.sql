-- What the doctor asks about the server, our log and who owns the functions. Never fails, whatever is missing and
-- whatever the role may not do; takes no lock that anybody waits for.
SELECT
  pg_catalog.current_setting('server_version_num')::int,
  pg_catalog.pg_is_in_recovery(),
  current_user::text,
  CASE WHEN pg_catalog.pg_is_in_recovery() THEN 0 ELSE pg_catalog.pg_notification_queue_usage() END,
  l.oid IS NOT NULL,
  coalesce(pg_catalog.has_schema_privilege(n.oid, 'USAGE') AND pg_catalog.has_table_privilege(l.oid, 'SELECT'), false),
  -- The log itself, or its slots: a partitioned table has neither bytes nor rows of its own.
  coalesce((SELECT sum(pg_catalog.pg_total_relation_size(t.relid)) FROM pg_catalog.pg_partition_tree(l.oid) t), 0)::bigint,
  coalesce((SELECT sum(greatest(c.reltuples, 0)) FROM pg_catalog.pg_partition_tree(l.oid) t
            JOIN pg_catalog.pg_class c ON c.oid = t.relid WHERE t.isleaf), 0)::bigint,
  o.rolname::text,
  coalesce(o.rolcanlogin, false),
  coalesce(o.rolsuper, false)
FROM (SELECT 1) AS one
LEFT JOIN pg_catalog.pg_namespace n ON n.nspname = 'pgevents'
LEFT JOIN pg_catalog.pg_class l ON l.relnamespace = n.oid AND l.relname = 'log' AND l.relkind IN ('r', 'p')
LEFT JOIN pg_catalog.pg_proc p ON p.pronamespace = n.oid AND p.proname = 'make_capture_v1'
LEFT JOIN pg_catalog.pg_roles o ON o.oid = p.proowner
