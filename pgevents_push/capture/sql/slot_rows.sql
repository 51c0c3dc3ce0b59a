-- About how many rows a slot holds; NULL when there is nothing in it. Ids count up, so the first and the last one
-- tell; rows of another round would stretch that, so its size has a say too (no row takes less than 120 bytes).
-- Statistics are not asked: a crash of the server forgets them.
CREATE OR REPLACE FUNCTION pgevents.slot_rows_v1(slot integer) RETURNS bigint
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
  leaf text := 'pgevents.log_' || slot;
  bytes bigint := pg_relation_size(leaf::regclass);
  span bigint;
BEGIN
  IF bytes = 0 THEN
    RETURN NULL;
  END IF;
  EXECUTE 'SELECT abs((SELECT id FROM ' || leaf || ' ORDER BY xid DESC, id DESC LIMIT 1)'
    || ' - (SELECT id FROM ' || leaf || ' ORDER BY xid, id LIMIT 1)) + 1' INTO span;
  RETURN least(coalesce(span, 0), bytes / 120);
END
$function$
