-- Empties the slots of the log that are due. Anybody who reads the log may call it, at any time: the settings are the
-- database's own. It waits for nobody: a slot that somebody writes, reads or dumps right now is left for the next
-- call (emptied = false). Several at once: one works, the others return nothing.
-- What a slot held is recorded in the same transaction, so whoever sees it empty can also see the record.
CREATE OR REPLACE FUNCTION pgevents.prune_v1() RETURNS TABLE (slot smallint, about_rows bigint, emptied boolean)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '100ms'
AS $function$
DECLARE
  counts bigint[];
  leaf text;
  last xid8;
  newest timestamptz;
BEGIN
  -- Each statement below must see what was committed before the lock: a snapshot that is older than the slot's last
  -- row would record too small an xid, and a cursor would lose changes silently.
  IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
    RAISE feature_not_supported USING MESSAGE = 'pgevents.prune_v1() must run in a READ COMMITTED transaction';
  END IF;
  IF NOT pg_try_advisory_xact_lock({prune_lock}) THEN
    RETURN;
  END IF;
  BEGIN
    counts := ARRAY(SELECT pgevents.slot_rows_v1(number) FROM generate_series(0, {slots} - 1) AS number ORDER BY number);
  EXCEPTION WHEN lock_not_available THEN
    RETURN;  -- somebody has locked a whole slot: DDL, or an administrator
  END;
  FOREACH slot IN ARRAY pgevents.due_now_v1(counts) LOOP
    leaf := 'pgevents.log_' || slot;
    about_rows := counts[slot + 1];
    BEGIN
      -- A writer that is still open in an old slot holds a lock on it, and so keeps its rows.
      EXECUTE 'LOCK TABLE ' || leaf || ' IN ACCESS EXCLUSIVE MODE NOWAIT';
      -- Xids that are yet to come are of another cluster: rows and records of theirs came here in a dump. Taken for
      -- ours they would be the greatest for ever, and what is emptied from now on missed by nobody.
      EXECUTE 'SELECT xid, at FROM ' || leaf || ' WHERE xid < pg_snapshot_xmax(pg_current_snapshot())'
        || ' ORDER BY xid DESC LIMIT 1' INTO last, newest;
      -- Asked again, now that nothing moves any more: the clock went on, perhaps the length of a slot changed. A row
      -- from the future tells that the clock went back: what looks old may be the newest.
      emptied := slot = ANY (pgevents.due_now_v1(counts)) AND coalesce(newest <= clock_timestamp(), true);
      IF emptied THEN
        IF last IS NOT NULL THEN
          INSERT INTO pgevents.emptied AS e (slot, max_xid, snapshot) VALUES (prune_v1.slot, last, pg_current_snapshot())
          ON CONFLICT ON CONSTRAINT emptied_pkey DO UPDATE SET at = excluded.at, snapshot = excluded.snapshot,
            max_xid = CASE WHEN e.max_xid > excluded.max_xid AND e.max_xid < pg_snapshot_xmax(pg_current_snapshot())
              THEN e.max_xid ELSE excluded.max_xid END;
        END IF;
        EXECUTE 'TRUNCATE ' || leaf;
      END IF;
    EXCEPTION WHEN lock_not_available THEN
      emptied := false;
    END;
    RETURN NEXT;
  END LOOP;
END
$function$
