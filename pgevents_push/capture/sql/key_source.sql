-- The text of the trigger function of a table of which the log holds keys only, and of changed columns those of the key. It
-- is made like that of whole rows, see capture_source.sql. To the reader each row is one that was too large: `truncated`.
CREATE OR REPLACE FUNCTION pgevents.key_source_v1(target oid, of_schema text, of_table text) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $function$
  WITH col AS (
    SELECT attnum, quote_ident(name) AS name, name AS bare, label AS json, place, compared, spelled
    FROM pgevents.captured_columns_v1(target)
  ), side AS (
    SELECT prefix,
      pgevents.as_made_v1(left(prefix, 3), prefix, target) AS guard,
      coalesce('CASE WHEN ' || string_agg(prefix || name || ' IS NOT NULL', ' AND ' ORDER BY place) FILTER (WHERE place IS NOT NULL)
        || ' THEN concat(' || string_agg(quote_literal(CASE place WHEN 1 THEN '{' ELSE ',' END || json || ':') || ', to_json('
          || pgevents.spelled_v1(spelled, prefix || name) || ')', ', ' ORDER BY place) FILTER (WHERE place IS NOT NULL) || ', ''}'') END', '''{}''') AS pk
    FROM (VALUES ('NEW.'), ('OLD.')) AS s (prefix) LEFT JOIN col ON true GROUP BY prefix
  ), part AS (
    SELECT
      coalesce(string_agg(
        '        IF ' || CASE compared
          WHEN 'images' THEN 'ROW(OLD.' || name || ')::record *<> ROW(NEW.' || name || ')::record'
          ELSE 'OLD.' || name || ' IS DISTINCT FROM NEW.' || name || CASE compared WHEN 'letters' THEN ' COLLATE "C"' ELSE '' END
        END || ' THEN
' || CASE WHEN place IS NULL THEN '          is_other := true;
' ELSE '          changed := concat_ws('','', changed, ' || quote_literal(json) || ');
          old_pk := ' || old_pk || ';
' END || '        END IF;
', '' ORDER BY attnum), '') AS comparisons,
      'ARRAY[' || coalesce(string_agg(quote_literal(bare), ', ' ORDER BY place) FILTER (WHERE place IS NOT NULL), '') || ']::text[]' AS keys
    FROM col CROSS JOIN (SELECT pk FROM side WHERE prefix = 'OLD.') AS o (old_pk)
  )
  SELECT $text$
DECLARE
  kind "char" := lower(left(TG_OP, 1) COLLATE "C");
  pk text;
  old_pk text;
  changed text;
  is_other boolean := false;
BEGIN
  BEGIN
    IF TG_OP = 'UPDATE' THEN
      IF $text$ || new.guard || $text$ THEN
$text$ || comparisons || $text$
        IF changed IS NULL AND NOT is_other THEN
          RETURN NULL;
        END IF;
        changed := concat('[', changed, ']');
        pk := $text$ || new.pk || $text$;
      END IF;
    ELSIF TG_OP = 'INSERT' THEN
      IF $text$ || new.guard || $text$ THEN
        pk := $text$ || new.pk || $text$;
      END IF;
    ELSIF TG_OP = 'DELETE' THEN
      IF $text$ || old.guard || $text$ THEN
        pk := $text$ || old.pk || $text$;
      END IF;
    ELSE
      pk := '{}';
    END IF;
  EXCEPTION WHEN OTHERS THEN
    pk := NULL;
  END;

  IF pk IS NULL THEN
    IF TG_OP = 'UPDATE' THEN
      SELECT c.pk, c.old_pk INTO pk, old_pk
      FROM pgevents.carefully_v1(TG_OP, TG_RELID, $text$ || keys || $text$, OLD, NEW) AS c;
      IF pk IS NULL THEN
        RETURN NULL;
      END IF;
      changed := (
        SELECT concat('[', string_agg(to_json(o.key)::text, ',' ORDER BY o.place), ']')
        FROM json_each_text(old_pk::json) WITH ORDINALITY AS o (key, value, place)
        JOIN json_each_text(pk::json) AS n (key, value) ON n.key = o.key AND n.value <> o.value COLLATE "C"
      );
    ELSIF TG_OP = 'INSERT' THEN
      SELECT c.pk INTO pk FROM pgevents.carefully_v1(TG_OP, TG_RELID, $text$ || keys || $text$, NEW, NEW) AS c;
    ELSE
      SELECT c.pk INTO pk FROM pgevents.carefully_v1(TG_OP, TG_RELID, $text$ || keys || $text$, OLD, OLD) AS c;
    END IF;
  END IF;

  INSERT INTO pgevents.log (schema_name, table_name, type, pk, old_pk, changed, actor, truncated)
  VALUES (
    $text$ || quote_literal(of_schema) || ', ' || quote_literal(of_table) || $text$, kind, pk, old_pk, coalesce(changed, '[]'),
    nullif(current_setting('pgevents.actor', true), ''), kind <> 't'
  );
  -- As in capture_source.sql.
  IF current_setting('pgevents.rang', true) IS DISTINCT FROM pg_current_xact_id()::text
    AND set_config('pgevents.rang', pg_current_xact_id()::text, true) IS NOT NULL
    AND NOT (pg_try_advisory_lock(7237125663275445356) AND pg_advisory_unlock(7237125663275445356))
  THEN
    PERFORM pgevents.ring_v1();
  END IF;
  RETURN NULL;
END
$text$
  FROM part, side AS new, side AS old WHERE new.prefix = 'NEW.' AND old.prefix = 'OLD.'
$function$
