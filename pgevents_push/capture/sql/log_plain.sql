-- A log without slots, of an earlier version, makes room: it holds recent events only. The installation gets another
-- id, so that a cursor into the old log is a gap. Without CASCADE: what somebody built upon it is theirs to drop.
DO $pgevents$
BEGIN
  IF EXISTS (SELECT FROM pg_catalog.pg_class WHERE oid = pg_catalog.to_regclass('pgevents.log') AND relkind = 'r') THEN
    DROP TABLE pgevents.log;
    DELETE FROM pgevents.installation;
  END IF;
END
$pgevents$
