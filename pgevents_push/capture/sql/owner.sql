-- The role that owns everything of ours: it cannot log in and owns nothing else, so a trigger function that runs
-- with its rights can do no more than write the log. Where the installer may not create roles (most hosted
-- databases) its own role stays the owner. Roles belong to the cluster, so another database may create it now too.
DO $pgevents$
DECLARE
  me pg_catalog.pg_roles;
BEGIN
  SELECT * INTO me FROM pg_catalog.pg_roles WHERE rolname = current_user;
  IF NOT (me.rolsuper OR me.rolcreaterole) THEN
    RETURN;
  END IF;
  IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'pgevents_owner') THEN
    BEGIN
      CREATE ROLE pgevents_owner NOLOGIN;
    EXCEPTION WHEN duplicate_object OR unique_violation THEN
      NULL;  -- another database of this cluster was faster
    END;
  END IF;
  IF NOT pg_catalog.pg_has_role('pgevents_owner', 'USAGE') THEN
    BEGIN
      EXECUTE 'GRANT pgevents_owner TO ' || pg_catalog.quote_ident(current_user);
    EXCEPTION WHEN insufficient_privilege THEN
      NULL;  -- the role is another administrator's: ours stays the owner
    END;
  END IF;
END
$pgevents$
