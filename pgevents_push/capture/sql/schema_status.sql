-- The hash that is installed, and whether the schema is one that we may build upon.
SELECT
  pg_catalog.obj_description(n.oid, 'pg_namespace') AS comment,
  pg_catalog.obj_description(pg_catalog.to_regprocedure('pgevents.make_capture_v1(oid, text, text, text, text, text)'), 'pg_proc') AS function_comment,
  pg_catalog.to_regclass('pgevents.installation') IS NOT NULL AND pg_catalog.to_regclass('pgevents.retention') IS NOT NULL
    AND pg_catalog.to_regclass('pgevents.emptied') IS NOT NULL AND pg_catalog.to_regclass('pgevents.captured') IS NOT NULL
    AND pg_catalog.to_regclass('pgevents.spent') IS NOT NULL
    AND {slots} = (
      SELECT pg_catalog.count(*) FROM pg_catalog.pg_inherits WHERE inhparent = pg_catalog.to_regclass('pgevents.log')
    ),
  pg_catalog.pg_get_userbyid(n.nspowner) IN (current_user, 'pgevents_owner')
    OR (NOT r.rolsuper AND pg_catalog.pg_has_role(n.nspowner, 'USAGE')) AS trusted,
  pg_catalog.pg_get_userbyid(n.nspowner) AS owner
FROM pg_catalog.pg_namespace n
JOIN pg_catalog.pg_roles r ON r.rolname = current_user
WHERE n.nspname = 'pgevents'
