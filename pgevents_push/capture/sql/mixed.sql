-- One statement did several kinds of things to a table (ON CONFLICT, MERGE, WITH), or made others do so meanwhile (a
-- trigger, a foreign key). Each kind comes into the log by itself: DELETE, UPDATE, INSERT, and a statement within another
-- one before it. This is the order of what happened to a row, with rare exceptions: a WITH that inserts first what its
-- DELETE is told by, foreign keys that go on where it ended, triggers that change the row again. Where one may be at hand
-- and the same key comes in both, nobody knows any more what came first; then the log says so, as begin_v1() does.
-- The note has a letter for each kind that began, opened_v1(), and one with the depth of triggers for each that ended:
-- "iuU1.I1.".
CREATE OR REPLACE FUNCTION pgevents.mixed_v1(
  target oid, of_schema text, of_table text, operation text, depth integer, written bigint
) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
  note CONSTANT text := concat('pgevents.open_', target);
  known text := coalesce(current_setting(note, true), '');
  kind CONSTANT text := left(operation, 1);
BEGIN
  IF written > 0 AND EXISTS (
    SELECT FROM regexp_matches(known, '([DUI])([0-9]+)', 'g') AS ended (part)
    WHERE part[2]::integer > depth OR part[2]::integer = depth AND position(part[1] IN 'DUI') > position(kind IN 'DUI')
  ) AND EXISTS (
    SELECT FROM (
      SELECT pk, old_pk, row_number() OVER (ORDER BY id DESC) <= written AS is_late FROM pgevents.log
      WHERE xid = pg_current_xact_id() AND schema_name = of_schema AND table_name = of_table AND type <> 'g'
    ) AS event
    CROSS JOIN LATERAL (VALUES (event.pk), (event.old_pk)) AS k (key)
    WHERE key IS NOT NULL GROUP BY key HAVING bool_or(is_late) AND NOT bool_and(is_late)
  ) THEN
    INSERT INTO pgevents.log (schema_name, table_name, type, pk) VALUES (of_schema, of_table, 'g', '{}');
  END IF;
  known := concat(known, kind, depth, '.');
  IF length(regexp_replace(known, '[^a-z]', '', 'g')) <= length(regexp_replace(known, '[^A-Z]', '', 'g')) THEN
    known := '';
  END IF;
  PERFORM set_config(note, known, true);
END
$function$
