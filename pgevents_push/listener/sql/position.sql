-- Where the log stands now, and which log it is: the cluster, its timeline and the installation.
SELECT pg_current_snapshot()::text,
       left(md5(concat_ws('/', (SELECT system_identifier FROM pg_control_system()),
                               (SELECT timeline_id FROM pg_control_checkpoint()),
                               (SELECT id FROM pgevents.installation))), 12)
