-- What row-level security asks of a row that the current role reads, as PostgreSQL puts policies together: one of the
-- permissive ones, and all of the restrictive ones. Names in it are complete, because the search_path is empty here.
-- `virtual`: a column that triggers do not see the value of; a policy would take it for null.
-- `active`: false where it is switched off, or where this role stands above it. `readable`: the role may read these
-- columns; null: all that there are; an empty list: any. `names` are all columns, `has_own_null` those of json and jsonb:
-- see readings.sql. `shape` is that of shapes.sql: the names in these conditions are those of now.
-- Parameters: schema, name, columns.
SELECT current_user::text,
       EXISTS (SELECT FROM pg_attribute AS v WHERE v.attrelid = c.oid AND v.attgenerated = 'v' AND NOT v.attisdropped),
       row_security_active(c.oid),
       CASE WHEN cardinality((%(columns)s)::text[]) = 0 THEN has_any_column_privilege(c.oid, 'SELECT') ELSE NOT EXISTS (
           SELECT FROM pg_attribute AS a
           WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
             AND ((%(columns)s)::text[] IS NULL OR a.attname = ANY ((%(columns)s)::text[]))
             AND NOT has_column_privilege(c.oid, a.attnum, 'SELECT')
       ) END,
       p.permissive, p.restrictive, a.names, a.has_own_null, a.shape
FROM pg_class AS c
JOIN pg_namespace AS n ON n.oid = c.relnamespace
CROSS JOIN LATERAL (
    SELECT string_agg(q.condition, ' OR ') FILTER (WHERE q.polpermissive) AS permissive,
           string_agg(q.condition, ' AND ') FILTER (WHERE NOT q.polpermissive) AS restrictive
    FROM (
        SELECT o.polpermissive, '(' || pg_get_expr(o.polqual, o.polrelid) || ')' AS condition
        FROM pg_policy AS o
        WHERE o.polrelid = c.oid AND o.polcmd IN ('r', '*') AND o.polqual IS NOT NULL
          AND EXISTS (
              SELECT FROM unnest(o.polroles) AS r (oid) WHERE CASE WHEN r.oid = 0 THEN true ELSE pg_has_role(r.oid, 'USAGE') END
          )
    ) AS q
) AS p
CROSS JOIN LATERAL (
    SELECT array_agg(quote_ident(m.attname) ORDER BY m.attnum) AS names,
           array_agg(m.atttypid IN ('json'::regtype, 'jsonb'::regtype) ORDER BY m.attnum) AS has_own_null,
           json_object_agg(m.attname, concat_ws('.', m.xmin, CASE WHEN m.atttypid >= 16384 THEN (
               SELECT string_agg(DISTINCT e.xmin::text, '.') FROM pg_enum AS e WHERE e.enumtypid = m.atttypid
           ) END)) AS shape
    FROM pg_attribute AS m WHERE m.attrelid = c.oid AND m.attnum > 0 AND NOT m.attisdropped
) AS a
WHERE n.nspname = %(schema)s AND c.relname = %(name)s
