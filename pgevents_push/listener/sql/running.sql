-- What those wrote that were running at the cursor: a part of since.sql.
-- Parameters: xip.
UNION ALL
SELECT * FROM pgevents.log AS l WHERE l.xid = ANY ((%(xip)s)::xid8[])
