-- What became visible after a snapshot, and the snapshot that says so.
-- All comes from ONE statement, so from one snapshot of PostgreSQL: with two, what commits in between is lost.
-- Candidates are found by the index on (xid, id): everything from xmax(cursor) on, and the transactions that
-- were still running then. A statement sees only what is committed, so no further visibility test is needed. They are
-- kept as they are found: to look again for the rows of each transaction, slot by slot, took 10 us a change, not 4. Large
-- texts stay where they are until they are sent.
-- In no order: the reader knows all of them, and three sorts of one row are not cheap.
-- The first row has no change, but what is said of all of them. It comes first since the parts of a UNION ALL are run in
-- turn where nothing is parallel; one that did not would be no snapshot to the reader. Its columns:
-- 1. the snapshot, and whether all `fits`: when there are more than `limit` rows, or more than `bytes` of text, none is
-- returned. No more than that are looked at;
-- 2. what the columns of their tables are, as shapes.sql has it: [[schema, table, {column: text}]]. A definition
-- under which one of them was made is visible where the change is, so where these texts are what they were before the
-- batch, no change in it was made under another definition. A statement of its own was a third of all that a quiet
-- change cost.
-- {running} is running.sql, or nothing where none was running: a quarter of the time; {change} is change.sql.
-- Parameters: xmax, xip, limit, bytes.
WITH candidate AS MATERIALIZED (
    SELECT c.* FROM (
        -- The upper bound is for rows that pg_dump brought from another cluster, whose xids are yet to come here.
        SELECT * FROM pgevents.log AS l
        WHERE l.xid >= (%(xmax)s)::xid8 AND l.xid < pg_snapshot_xmax(pg_current_snapshot())
        {running}
    ) AS c
    LIMIT %(limit)s + 1
), fresh AS MATERIALIZED (
    -- octet_length() knows the length of a large text without fetching it.
    SELECT count(*) <= %(limit)s AND coalesce(
        sum(octet_length(coalesce(c.new_row, '')) + octet_length(coalesce(c.old_row, ''))), 0
    ) <= %(bytes)s AS fits
    FROM candidate AS c
)
SELECT concat_ws(' ', pg_current_snapshot(), (SELECT fresh.fits FROM fresh)) AS short, (
    SELECT json_agg(json_build_array(t.schema_name, t.table_name, (
        -- Types with a lower number are PostgreSQL's own, and no enums.
        SELECT json_object_agg(a.attname, concat_ws('.', a.xmin, CASE WHEN a.atttypid >= 16384 THEN (
            SELECT string_agg(DISTINCT e.xmin::text, '.') FROM pg_enum AS e WHERE e.enumtypid = a.atttypid
        ) END))
        FROM pg_attribute AS a
        WHERE a.attrelid = (
            SELECT c.oid FROM pg_class AS c
            WHERE c.relname = t.table_name
                AND c.relnamespace = (SELECT n.oid FROM pg_namespace AS n WHERE n.nspname = t.schema_name)
        ) AND a.attnum > 0 AND NOT a.attisdropped
    )))::text
    FROM (
        SELECT DISTINCT c.schema_name, c.table_name FROM candidate AS c WHERE (SELECT fresh.fits FROM fresh)
    ) AS t
) AS new_row, NULL AS old_row
UNION ALL
SELECT {change}
FROM candidate AS l
WHERE (SELECT fresh.fits FROM fresh)
