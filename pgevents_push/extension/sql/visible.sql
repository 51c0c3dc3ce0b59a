-- Which of some rows, given as the log has them, the current role may see: {policy} is that of policies.sql. A row is
-- an image and what is put over it, so that the row as it was is the row as it is with its old values.
-- For a table with columns of json or jsonb there is readings.sql.
-- The odd names stand in nobody's way: within {policy} the table's columns are known by their own.
-- Parameters: numbers, images, overlays.
SELECT current_user::text, coalesce(array_agg("!images"."!number"), '{}'), '{}'::int[]
FROM ROWS FROM (
    unnest((%(numbers)s)::int[]), unnest((%(images)s)::json[]), unnest((%(overlays)s)::json[])
) AS "!images" ("!number", "!image", "!overlay")
CROSS JOIN LATERAL json_populate_record(json_populate_record(NULL::{table}, "!images"."!image"), "!images"."!overlay") AS {alias}
WHERE {policy}
