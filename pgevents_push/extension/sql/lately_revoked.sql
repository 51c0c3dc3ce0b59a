-- Who was revoked in the last seconds, among the newest changes: the whole log is not searched.
-- Parameters: seconds, newest.
SELECT DISTINCT n.pk::json ->> 'identity'
FROM (
    SELECT l.schema_name, l.table_name, l.pk, l.at FROM pgevents.log AS l ORDER BY l.xid DESC, l.id DESC LIMIT %(newest)s
) AS n
WHERE n.schema_name = 'pgevents' AND n.table_name = 'revoked' AND n.at > clock_timestamp() - make_interval(secs => %(seconds)s)
