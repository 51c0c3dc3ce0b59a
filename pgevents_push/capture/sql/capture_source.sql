-- The text of a table's trigger function, which writes the log. Each table has a function of its own: to find out at
-- each change what the catalog says costs a change of one row twice as much.
-- It is made for the columns that the table has now, and notices any other number, order, name or type, see as_made.sql.
-- Then, and for all that is out of the ordinary, it calls carefully_v1().
-- To name a column that is gone is an error, so this stands in a block of its own. The log is written outside of it:
-- in such a block each row would take a transaction id.
-- PostgreSQL prepares each expression again in each transaction, those within INSERT for each row, and for each function
-- or operator in it looks up whether it may be called: half of what a transaction that changes one row costs. Hence the
-- plain IFs, of which most are false, few expressions at the end, and concat() instead of casts and "||".
CREATE OR REPLACE FUNCTION pgevents.capture_source_v1(target oid, of_schema text, of_table text) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $function$
  WITH key AS (
    SELECT name, place FROM pgevents.captured_columns_v1(target) WHERE place IS NOT NULL
  ), col AS (
    SELECT attnum, quote_ident(name) AS name, label AS json, place, compared, spelled
    FROM pgevents.captured_columns_v1(target)
  ), pk AS (
    -- NULL where the key is none any more and holds a NULL: that is out of the ordinary too.
    SELECT side, coalesce(
      'CASE WHEN ' || string_agg(side || name || ' IS NOT NULL', ' AND ' ORDER BY place) || ' THEN concat('
        || string_agg(quote_literal(CASE place WHEN 1 THEN '{' ELSE ',' END || json || ':') || ', to_json(' || pgevents.spelled_v1(spelled, side || name) || ')', ', '
          ORDER BY place)
        || ', ''}'') END',
      '''{}'''
    ) AS pairs
    FROM (VALUES ('NEW.'), ('OLD.')) AS s (side) LEFT JOIN col ON place IS NOT NULL GROUP BY side
  ), part AS (
    SELECT
      coalesce(string_agg(
        '        IF ' || CASE compared
          WHEN 'images' THEN 'ROW(OLD.' || name || ')::record *<> ROW(NEW.' || name || ')::record'
          ELSE 'OLD.' || name || ' IS DISTINCT FROM NEW.' || name || CASE compared WHEN 'letters' THEN ' COLLATE "C"' ELSE '' END
        END || $text$ THEN
          changed := concat_ws(',', changed, $text$ || quote_literal(json) || $text$);
          old_row := concat_ws(',', old_row, concat($text$ || quote_literal(json || ':') || ', coalesce(to_json(' || pgevents.spelled_v1(spelled, 'OLD.' || name)
          || $text$), 'null')));
$text$ || CASE WHEN place IS NULL THEN '' ELSE '          old_pk := ' || old_pk.pairs || ';
' END || '        END IF;
', '' ORDER BY attnum), '') AS comparisons
    FROM col CROSS JOIN (SELECT pairs FROM pk WHERE side = 'OLD.') AS old_pk
  )
  SELECT $text$
DECLARE
  kind "char";
  pk text;
  old_pk text;
  new_row text;
  old_row text;
  changed text;
  truncated boolean;
BEGIN
  BEGIN
    IF TG_OP = 'UPDATE' THEN
      IF pg_column_size(ROW(OLD, NEW)) <= 65536 AND $text$ || new_as_made || $text$ THEN
$text$ || comparisons || $text$
        IF changed IS NULL THEN
          RETURN NULL;
        END IF;
        kind := 'u';
        changed := concat('[', changed, ']');
        old_row := $text$ || CASE WHEN EXISTS (SELECT FROM key) THEN 'concat(''{'', old_row, ''}'')' ELSE old_json END || $text$;
        new_row := $text$ || new_json || $text$;
        IF octet_length(new_row) + octet_length(old_row) <= pgevents.max_row_bytes_v1() THEN
          pk := $text$ || new_pk.pairs || $text$;
        END IF;
      END IF;
    ELSIF TG_OP = 'INSERT' THEN
      IF pg_column_size(NEW) <= 65536 AND $text$ || new_as_made || $text$ THEN
        kind := 'i';
        new_row := $text$ || new_json || $text$;
        IF octet_length(new_row) <= pgevents.max_row_bytes_v1() THEN
          pk := $text$ || new_pk.pairs || $text$;
        END IF;
      END IF;
    ELSIF TG_OP = 'DELETE' THEN
      IF pg_column_size(OLD) <= 65536 AND $text$ || old_as_made || $text$ THEN
        kind := 'd';
        old_row := $text$ || old_json || $text$;
        IF octet_length(old_row) <= pgevents.max_row_bytes_v1() THEN
          pk := $text$ || old_pk.pairs || $text$;
        END IF;
      END IF;
    ELSE
      kind := 't';
      pk := '{}';
    END IF;
  EXCEPTION WHEN OTHERS THEN
    pk := NULL;
  END;

  IF pk IS NULL THEN
    kind := lower(left(TG_OP, 1) COLLATE "C");
    IF TG_OP = 'UPDATE' THEN
      SELECT * INTO pk, old_pk, new_row, old_row, changed, truncated
      FROM pgevents.carefully_v1(TG_OP, TG_RELID, $text$ || keys || $text$, OLD, NEW);
      IF pk IS NULL THEN
        RETURN NULL;
      END IF;
    ELSIF TG_OP = 'INSERT' THEN
      SELECT * INTO pk, old_pk, new_row, old_row, changed, truncated
      FROM pgevents.carefully_v1(TG_OP, TG_RELID, $text$ || keys || $text$, NEW, NEW);
    ELSE
      SELECT * INTO pk, old_pk, new_row, old_row, changed, truncated
      FROM pgevents.carefully_v1(TG_OP, TG_RELID, $text$ || keys || $text$, OLD, OLD);
    END IF;
  END IF;

  INSERT INTO pgevents.log
    (schema_name, table_name, type, pk, old_pk, new_row, old_row, changed, actor, truncated)
  VALUES (
    $text$ || quote_literal(of_schema) || ', ' || quote_literal(of_table) || $text$, kind, pk, old_pk, new_row, old_row,
    coalesce(changed, '[]'), nullif(current_setting('pgevents.actor', true), ''), truncated IS TRUE
  );
  -- Whether somebody sleeps is asked once for each transaction, and after the insert: see ring.sql.
  IF current_setting('pgevents.rang', true) IS DISTINCT FROM pg_current_xact_id()::text
    AND set_config('pgevents.rang', pg_current_xact_id()::text, true) IS NOT NULL
    AND NOT (pg_try_advisory_lock(7237125663275445356) AND pg_advisory_unlock(7237125663275445356))
  THEN
    PERFORM pgevents.ring_v1();
  END IF;
  RETURN NULL;
END
$text$
  FROM part, pk AS new_pk, pk AS old_pk, (
    SELECT 'ARRAY[' || coalesce(string_agg(quote_literal(name), ', ' ORDER BY place), '') || ']::text[]' FROM key
  ) AS k (keys), (
    SELECT 'concat(' || pgevents.row_query_v1('row_to_json', 'NEW', 'NEW.', target) || ')', 'concat(' || pgevents.row_query_v1('row_to_json', 'OLD', 'OLD.', target) || ')'
  ) AS j (new_json, old_json), (
    SELECT pgevents.as_made_v1('NEW', 'NEW.', target), pgevents.as_made_v1('OLD', 'OLD.', target)
  ) AS m (new_as_made, old_as_made)
  WHERE new_pk.side = 'NEW.' AND old_pk.side = 'OLD.'
$function$
