-- A table's trigger was made, or enabled again. Where it is not the first time a row of the log says so: whoever reads
-- across it may have missed changes of this table, in whatever process, and whenever he comes back. It is written in
-- the transaction that makes the trigger, which locks writers out: all that is lost lies before it, nothing after it.
CREATE OR REPLACE FUNCTION pgevents.begin_v1(of_schema text, of_table text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
  INSERT INTO pgevents.captured VALUES (of_schema, of_table) ON CONFLICT DO NOTHING;
  IF NOT FOUND THEN
    INSERT INTO pgevents.log (schema_name, table_name, type, pk) VALUES (of_schema, of_table, 'g', '{}');
    PERFORM pgevents.ring_v1();
  END IF;
END
$function$
