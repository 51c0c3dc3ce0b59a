-- The doorbell: one empty NOTIFY for each transaction. Empty, because any role could forge and read a payload.
-- It notes in a setting of the transaction that it rang, so that rolling back to a savepoint takes back both. The
-- note is the transaction's number: a setting that a session left behind silences nothing.
CREATE OR REPLACE FUNCTION pgevents.ring_v1() RETURNS void
LANGUAGE plpgsql
AS $function$
BEGIN
  PERFORM pg_catalog.set_config('pgevents.rang', pg_catalog.pg_current_xact_id()::text, true);
  PERFORM pg_catalog.pg_notify('pgevents', '');
END
$function$
