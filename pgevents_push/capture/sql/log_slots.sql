-- The slots of the log, all made here: nothing is created at run time, so no write ever finds its slot missing. The
-- length of a slot is a constant of the column's default: to look it up for each row would cost a query. It is
-- changed only when asked for ({always}), so that two applications with different settings do not take turns.
DO $pgevents$
DECLARE
  length double precision := {seconds}::double precision / ({slots} - 3);
BEGIN
  FOR slot IN 0 .. {slots} - 1 LOOP
    EXECUTE 'CREATE TABLE IF NOT EXISTS pgevents.log_' || slot || ' PARTITION OF pgevents.log FOR VALUES IN (' || slot || ')';
  END LOOP;
  -- No writer is in the middle of a row when the length changes.
  LOCK TABLE pgevents.log IN ACCESS EXCLUSIVE MODE;
  INSERT INTO pgevents.retention AS r (seconds, rows, period) VALUES ({seconds}, {rows}, length)
  ON CONFLICT (one) DO UPDATE SET seconds = excluded.seconds, rows = excluded.rows, period = excluded.period,
    since = CASE r.period WHEN excluded.period THEN r.since ELSE excluded.since END
  WHERE {always};
  SELECT period INTO STRICT length FROM pgevents.retention;
  EXECUTE 'ALTER TABLE pgevents.log ALTER slot SET DEFAULT pg_catalog.mod(pg_catalog.floor(pg_catalog.date_part('
    || '''epoch'', pg_catalog.clock_timestamp()) / ''' || length || '''::double precision)::bigint, {slots})::smallint';
END
$pgevents$
