-- The doorbell: one empty NOTIFY for each transaction, and only if a listener sleeps, because NOTIFY makes all
-- commits of the cluster take turns (8 writers keep 0.3 of their throughput). Empty, because any role could forge
-- and read a payload. It comes after the insert: a listener that falls asleep notes who has written without ringing.
-- It notes in a setting of the transaction that it was here, so that rolling back to a savepoint takes back both.
-- The note is the transaction's number: a setting that a session left behind silences nothing.
CREATE OR REPLACE FUNCTION pgevents.ring_v1() RETURNS void
LANGUAGE plpgsql
AS $function$
DECLARE
  -- "doorbell" as a number. A sleeping listener holds this lock in share mode.
  bell CONSTANT bigint := 7237125663275445356;
BEGIN
  PERFORM pg_catalog.set_config('pgevents.rang', pg_catalog.pg_current_xact_id()::text, true);
  -- Taken and released within one expression: a statement that is cancelled in between would keep the lock. The
  -- first attempt may meet another writer's; the second one rarely does.
  IF pg_catalog.pg_try_advisory_lock(bell) AND pg_catalog.pg_advisory_unlock(bell) THEN
    RETURN;
  ELSIF pg_catalog.pg_try_advisory_lock(bell) AND pg_catalog.pg_advisory_unlock(bell) THEN
    RETURN;
  END IF;
  PERFORM pg_catalog.pg_notify('pgevents', '');
END
$function$
