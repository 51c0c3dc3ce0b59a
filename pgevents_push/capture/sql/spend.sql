-- Notes a ticket's number; false when it was noted before. Of two processes at the same moment one waits for the other.
-- Each call takes a few old ones away, so that nobody else has to.
CREATE OR REPLACE FUNCTION pgevents.spend_v1(number text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
  DELETE FROM pgevents.spent s WHERE s.number = ANY (ARRAY(
    SELECT old.number FROM pgevents.spent old WHERE old.at < clock_timestamp() - interval '1 hour'
    ORDER BY old.at LIMIT 10 FOR UPDATE SKIP LOCKED
  ));
  INSERT INTO pgevents.spent (number) VALUES (spend_v1.number) ON CONFLICT DO NOTHING;
  RETURN FOUND;
END
$function$
