-- What the log says of a change for which a table's own function (capture_source.sql) is not made: a row of more than
-- 64 kB, one that JSON cannot hold, or a table that is no longer what it was. It asks the catalog, and column by
-- column, and takes 0.2 ms. For an update that changes nothing pk is NULL.
-- Called with the row before and the row after; an INSERT and a DELETE have but one, and give it twice.
CREATE OR REPLACE FUNCTION pgevents.carefully_v1(
  operation text, target oid, keys text[], before anyelement, after anyelement,
  OUT pk text, OUT old_pk text, OUT new_row text, OUT old_row text, OUT changed text, OUT truncated boolean
)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET "TimeZone" = 'UTC'
SET "DateStyle" = 'ISO, YMD'
SET "IntervalStyle" = 'postgres'
SET extra_float_digits = '1'
SET bytea_output = 'hex'
AS $function$
DECLARE
  max_bytes CONSTANT integer := pgevents.max_row_bytes_v1();
  old_values text;
BEGIN
  IF operation = 'UPDATE' AND NOT before *<> after THEN
    RETURN;
  END IF;
  -- Values are compressed up to 255-fold (lz4), JSON escapes grow 6-fold: the JSON of a row below the cap may still be
  -- over the 1 GB that PostgreSQL allows for one text.
  truncated := greatest(pg_column_size(before), pg_column_size(after)) > max_bytes;
  IF NOT truncated THEN
    BEGIN
      IF operation <> 'DELETE' THEN
        EXECUTE 'SELECT ' || pgevents.row_query_v1('row_to_json', '$1', '($1).', target) INTO new_row USING after;
      END IF;
      IF operation <> 'INSERT' THEN
        EXECUTE 'SELECT ' || pgevents.row_query_v1('row_to_json', '$1', '($1).', target) INTO old_row USING before;
      END IF;
      truncated := greatest(octet_length(new_row), octet_length(old_row)) > max_bytes;
    EXCEPTION WHEN program_limit_exceeded OR internal_error OR out_of_memory THEN
      truncated := true;
    END;
  END IF;
  -- A key column was renamed, or is gone: ask for today's key.
  IF NOT keys <@ ARRAY(SELECT attname::text FROM pg_attribute WHERE attrelid = target AND NOT attisdropped) THEN
    keys := pgevents.key_columns_v1(target);
  END IF;
  IF operation = 'UPDATE' THEN
    EXECUTE pgevents.columns_query_v1(target, keys, NOT truncated)
    INTO pk, old_pk, changed, old_values USING after, before;
    old_pk := nullif(old_pk, pk);
  ELSE
    EXECUTE 'SELECT ' || pgevents.key_query_v1('($1).', keys, target) INTO pk USING after;
  END IF;
  IF truncated THEN
    -- The key is never cut: it is the row's name, and its index bounds it (2,704 bytes, compressed).
    new_row := NULL;
    old_row := NULL;
  ELSIF operation = 'UPDATE' AND cardinality(keys) > 0 THEN
    old_row := old_values;
  END IF;
END
$function$
