-- Writes the log, for every table. Arguments: schema, table, key columns; a partition's trigger has its parent's.
-- It runs with its owner's rights, so writers need none, and with settings of its own: nobody's search_path makes
-- it call something else, and the same row is the same text from every session (all of them: 0.7 of 13 us a row).
CREATE OR REPLACE FUNCTION pgevents.capture_v1() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET "TimeZone" = 'UTC'
SET "DateStyle" = 'ISO, YMD'
SET "IntervalStyle" = 'postgres'
SET extra_float_digits = '1'
SET bytea_output = 'hex'
SET xmlbinary = 'base64'
AS $function$
DECLARE
  max_bytes CONSTANT bigint := {max_row_bytes};
  -- Values are compressed up to 255-fold (lz4), JSON escapes grow 6-fold: a row of up to this size stays far below
  -- the 1 GB that PostgreSQL allows for one text. The JSON of larger ones is made where its failure is caught.
  safe_bytes CONSTANT bigint := 65536;
  -- Longer JSON is not parsed: asking column by column is faster there.
  short_bytes CONSTANT bigint := 8000;
  size bigint;
  too_large boolean := false;
  keys text[] := TG_ARGV[2:];
  new_json json;
  old_json json;
  longer text;
  new_pk text := '{}';
  old_pk text;
  old_row text;
  changed text;
BEGIN
  IF TG_OP = 'UPDATE' THEN
    -- Compares the images, because some types have no "=", and 1.0 = 1.00.
    IF NOT OLD *<> NEW THEN
      RETURN NULL;
    END IF;
  END IF;

  IF TG_OP <> 'TRUNCATE' THEN
    size := greatest(pg_column_size(OLD), pg_column_size(NEW));
    too_large := size > max_bytes;
    IF size <= safe_bytes THEN
      new_json := row_to_json(NEW);
      old_json := row_to_json(OLD);
    ELSIF NOT too_large THEN
      BEGIN
        new_json := row_to_json(NEW);
        old_json := row_to_json(OLD);
      EXCEPTION WHEN program_limit_exceeded OR internal_error OR out_of_memory THEN
        too_large := true;
      END;
    END IF;
    size := greatest(octet_length(new_json::text), octet_length(old_json::text));
    too_large := too_large OR size > max_bytes;

    IF NOT too_large AND size <= short_bytes
      -- A json column may hold what PostgreSQL stores but cannot parse again, like "\u0000". Written as E'': this
      -- text is read with the writer's standard_conforming_strings, and '\u' is an error where that is off.
      AND strpos(concat(new_json, old_json), E'\\u') = 0
    THEN
      new_pk := pgevents.pk_v1(coalesce(new_json, old_json), keys);
      IF TG_OP = 'UPDATE' THEN
        old_pk := pgevents.pk_v1(old_json, keys);
        -- Both rows have the same columns in the same order, so the two lists run side by side.
        SELECT '[' || string_agg(to_json(name)::text, ',') || ']',
          '{' || string_agg(to_json(name)::text || ':' || old_value::text, ',') || '}'
        INTO changed, old_row
        FROM ROWS FROM (json_each(old_json), json_each(new_json)) AS pair (name, old_value, same_name, new_value)
        WHERE old_value::text <> new_value::text;
      END IF;
    ELSE
      new_pk := NULL;
    END IF;

    IF new_pk IS NULL THEN
      -- Column by column. Also when a key column was renamed since the trigger was made: ask for today's key.
      IF NOT keys <@ ARRAY(SELECT attname::text FROM pg_attribute WHERE attrelid = TG_RELID AND NOT attisdropped) THEN
        keys := pgevents.key_columns_v1(TG_RELID);
      END IF;
      IF TG_OP = 'INSERT' THEN
        EXECUTE 'SELECT ' || pgevents.key_query_v1('($1).', keys) INTO new_pk USING NEW;
      ELSIF TG_OP = 'DELETE' THEN
        EXECUTE 'SELECT ' || pgevents.key_query_v1('($1).', keys) INTO new_pk USING OLD;
      ELSE
        EXECUTE pgevents.columns_query_v1(TG_RELID, keys, NOT too_large)
        INTO new_pk, old_pk, changed, old_row USING NEW, OLD;
      END IF;
    END IF;

    IF too_large THEN
      -- The key is never cut: it is the row's name, and its index bounds it (2,704 bytes, compressed).
      new_json := NULL;
      old_row := NULL;
    ELSIF TG_OP = 'DELETE' OR cardinality(keys) = 0 THEN
      old_row := old_json::text;
    ELSIF TG_OP = 'UPDATE' THEN
      old_row := coalesce(old_row, '{}');
    END IF;
  END IF;

  INSERT INTO pgevents.log
    (schema_name, table_name, type, pk, old_pk, new_row, old_row, changed, actor, truncated)
  VALUES (
    TG_ARGV[0], TG_ARGV[1], lower(left(TG_OP, 1)), new_pk, nullif(old_pk, new_pk), new_json::text, old_row,
    coalesce(changed, '[]'), nullif(current_setting('pgevents.actor', true), ''), too_large
  );
  -- After the insert. Asked here, because to call the doorbell for each row costs 1 us.
  IF current_setting('pgevents.rang', true) IS DISTINCT FROM pg_current_xact_id()::text THEN
    PERFORM pgevents.ring_v1();
  END IF;
  RETURN NULL;
END
$function$
