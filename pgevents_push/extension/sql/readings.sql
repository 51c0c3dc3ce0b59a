-- The same as visible.sql, at twice the cost, for a table with columns of json or jsonb; and which rows the role may see perhaps.
-- A null in the log may be SQL's or, in a column of json or jsonb, JSON's own, which IS NOT NULL. So such a row has several
-- readings: all are SQL's (0), one of them is JSON's (from 1 on), all are ({all}). What not all of them say nobody knows.
-- The odd names stand in nobody's way: within {policy} the table's columns are known by their own.
-- Parameters: numbers, images, overlays.
SELECT current_user::text,
       coalesce(array_agg(v.number) FILTER (WHERE v.seen = v.readings), '{}'),
       coalesce(array_agg(v.number) FILTER (WHERE v.seen < v.readings), '{}')
FROM (
    SELECT "!rows"."!number" AS number, "!rows"."!count" AS readings, count(*) AS seen
    FROM (
        SELECT i.number AS "!number", i.found AS "!row", CASE WHEN {unsure} THEN {all} + 1 ELSE 1 END AS "!count"
        FROM (
            SELECT s.number, json_populate_record(json_populate_record(NULL::{table}, s.image), s.overlay) AS found
            FROM ROWS FROM (
                unnest((%(numbers)s)::int[]), unnest((%(images)s)::json[]), unnest((%(overlays)s)::json[])
            ) AS s (number, image, overlay)
            OFFSET 0  -- made once
        ) AS i
    ) AS "!rows"
    CROSS JOIN unnest({readings}) AS "!readings" ("!reading")
    -- A function's result, so that it is a row of the table to {policy}.
    CROSS JOIN LATERAL json_populate_record({row}, '{}') AS {alias}
    WHERE "!reading" < "!count" AND {policy}
    GROUP BY "!rows"."!number", "!rows"."!count"
) AS v
