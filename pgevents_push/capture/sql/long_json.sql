-- The JSON of a row of a transition table that has more than 64 kB; NULL where it is over the cap. The JSON of a row
-- below it may still be over the 1 GB that PostgreSQL allows for one text: see carefully.sql. Of arrays JSON takes less
-- than they do, but not an eighth.
CREATE OR REPLACE FUNCTION pgevents.long_json_v1(value anyelement) RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
  max_bytes CONSTANT integer := pgevents.max_row_bytes_v1();
  made text;
BEGIN
  IF pg_column_size(value) / 8 > max_bytes THEN
    RETURN NULL;
  END IF;
  made := row_to_json(value)::text;
  RETURN CASE WHEN octet_length(made) <= max_bytes THEN made END;
EXCEPTION WHEN program_limit_exceeded OR internal_error OR out_of_memory THEN
  RETURN NULL;
END
$function$
