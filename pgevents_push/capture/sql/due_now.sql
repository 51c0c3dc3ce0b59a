-- Which slots may be emptied at this moment. Volatile: asked twice in a transaction it looks at the clock twice.
CREATE OR REPLACE FUNCTION pgevents.due_now_v1(counts bigint[]) RETURNS smallint[]
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $function$
  SELECT pgevents.due_v1(
    date_part('epoch', clock_timestamp()), date_part('epoch', since), period, seconds, rows, counts
  ) FROM pgevents.retention
$function$
