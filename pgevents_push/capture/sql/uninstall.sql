-- Take back everything: triggers on all tables, functions, log, schema, and the role unless another database of the
-- cluster uses it. Without CASCADE: what somebody built upon ours is theirs to drop.
DO $pgevents$
DECLARE
  drop_statement text;
BEGIN
  FOR drop_statement IN
    SELECT 'DROP TRIGGER ' || pg_catalog.quote_ident(t.tgname) || ' ON ' || t.tgrelid::pg_catalog.regclass::text
    FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_proc p ON p.oid = t.tgfoid
    JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
    WHERE n.nspname = 'pgevents' AND t.tgparentid = 0 AND NOT t.tgisinternal
    ORDER BY t.tgrelid
  LOOP
    EXECUTE drop_statement;
  END LOOP;
  DROP FUNCTION IF EXISTS pgevents.capture_v1(), pgevents.ring_v1(), pgevents.pk_v1(json, text[]),
    pgevents.columns_query_v1(oid, text[], boolean), pgevents.key_query_v1(text, text[]), pgevents.key_columns_v1(oid);
  DROP FUNCTION IF EXISTS pgevents.prune_v1(), pgevents.due_now_v1(bigint[]), pgevents.slot_rows_v1(integer),
    pgevents.due_v1(double precision, double precision, double precision, double precision, bigint, bigint[]);
  DROP TABLE IF EXISTS pgevents.log, pgevents.installation, pgevents.retention, pgevents.emptied;
  DROP SCHEMA IF EXISTS pgevents;
  IF EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'pgevents_owner') THEN
    BEGIN
      DROP ROLE pgevents_owner;
    EXCEPTION WHEN dependent_objects_still_exist OR insufficient_privilege THEN
      NULL;
    END;
  END IF;
END
$pgevents$
