-- The cap on a row's JSON, in bytes. The planner puts the number into the functions that ask for it, and plans them
-- again when it changes.
CREATE OR REPLACE FUNCTION pgevents.max_row_bytes_v1() RETURNS integer
LANGUAGE sql IMMUTABLE
AS $function$
  SELECT {max_row_bytes}
$function$
