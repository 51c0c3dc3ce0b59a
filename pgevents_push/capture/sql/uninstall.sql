-- Take back everything: triggers on all tables, functions, log, schema, and the role unless another database of the
-- cluster uses it. Without CASCADE: what somebody built upon ours is theirs to drop.
DO $pgevents$
DECLARE
  drop_statement text;
  ours text;
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
  FOR ours IN
    SELECT p.oid::pg_catalog.regprocedure::text
    FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
    WHERE n.nspname = 'pgevents' AND pg_catalog.starts_with(p.proname, 'capture_v') AND p.prorettype = 'trigger'::pg_catalog.regtype
  LOOP
    EXECUTE 'DROP FUNCTION ' || ours;
  END LOOP;
  DROP FUNCTION IF EXISTS pgevents.ring_v1(), pgevents.pk_v1(json, text[]), pgevents.max_row_bytes_v1(),
    pgevents.carefully_v1(text, oid, text[], anyelement, anyelement), pgevents.columns_query_v1(oid, text[], boolean),
    pgevents.capture_source_v1(oid, text, text), pgevents.settings_v1(oid), pgevents.key_query_v1(text, text[]),
    pgevents.key_query_v1(text, text[], oid), pgevents.row_query_v1(text, text, text, oid), pgevents.spelled_v1(text, text),
    pgevents.as_made_v1(text, text, oid),
    pgevents.key_columns_v1(oid), pgevents.captured_columns_v1(oid), pgevents.statement_source_v1(oid, text, text),
    pgevents.statement_query_v1(oid, text, text, text), pgevents.key_source_v1(oid, text, text), pgevents.long_json_v1(anyelement),
    pgevents.opened_v1(), pgevents.spell_v1(text[]), pgevents.mixed_v1(oid, text, text, text, integer, bigint), pgevents.make_capture_v1(oid, text, text, text, text, text), pgevents.tidy_v1();
  DROP FUNCTION IF EXISTS pgevents.prune_v1(), pgevents.due_now_v1(bigint[]), pgevents.slot_rows_v1(integer),
    pgevents.due_v1(double precision, double precision, double precision, double precision, bigint, bigint[]);
  DROP FUNCTION IF EXISTS pgevents.begin_v1(text, text), pgevents.revoke_v1(text), pgevents.spend_v1(text);
  DROP TABLE IF EXISTS pgevents.log, pgevents.installation, pgevents.retention, pgevents.emptied, pgevents.captured,
    pgevents.spent;
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
