-- The rows of a table as a client gets them, in the order of the key. Of a long row only comes where it is, or its key, so that
-- the number of rows in an answer bounds its size; what a value takes on disk is known without fetching it.
-- OFFSET 0: the text is made once, and not in each place where it is used.
-- Filled in: names and expressions. Parameters: few (bytes), and those of the condition.
DECLARE pgevents_rows NO SCROLL CURSOR FOR
SELECT CASE WHEN octet_length(made."pgevents item") <= %(few)s THEN made."pgevents item" END,
       CASE WHEN octet_length(made."pgevents item") <= %(few)s THEN NULL ELSE {instead} END,
       CASE WHEN octet_length(made."pgevents item") <= %(few)s THEN NULL ELSE {tableoid} END
FROM {table} AS t
CROSS JOIN LATERAL (
    SELECT CASE WHEN {stored} <= %(few)s
        THEN (SELECT '{"pk":' || row_to_json(k.*) || ',"row":' || row_to_json(r.*) || '}' FROM {key} AS k, {row} AS r)
    END AS "pgevents item"
    OFFSET 0
) AS made
WHERE {condition}
{order}
{limit}
