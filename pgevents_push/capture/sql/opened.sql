-- A statement begins to insert, update or delete rows of a table that is captured statement by statement: noted for
-- mixed_v1(). It runs with the writer's rights, as it needs none.
CREATE OR REPLACE FUNCTION pgevents.opened_v1() RETURNS trigger
LANGUAGE plpgsql
AS $function$
DECLARE
  note CONSTANT text := pg_catalog.concat('pgevents.open_', TG_RELID);
BEGIN
  PERFORM pg_catalog.set_config(
    note, pg_catalog.concat(pg_catalog.current_setting(note, true), pg_catalog.lower(pg_catalog."left"(TG_OP, 1) COLLATE pg_catalog."C")), true
  );
  RETURN NULL;
END
$function$
