-- The columns of one table, with all that is needed to compare their values as PostgreSQL does.
-- Everything is named with its schema: the search_path is the application's, which may have a "text" of its own.
-- What not every version from 14 on has in its catalog is read through to_jsonb().
-- Parameters: schema, name.
WITH RECURSIVE typed AS (
    SELECT a.attnum, a.attname, a.attcollation, t.oid, t.typtype, t.typbasetype, EXISTS (
        SELECT FROM pg_catalog.pg_index AS i WHERE i.indrelid = c.oid AND i.indisprimary
          AND a.attnum = ANY ((i.indkey::pg_catalog.int2[])[:i.indnkeyatts - 1])  -- it counts from 0; behind them are those of INCLUDE
    ) AS in_key
    FROM pg_catalog.pg_attribute AS a
    JOIN pg_catalog.pg_class AS c ON c.oid = a.attrelid
    JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    JOIN pg_catalog.pg_type AS t ON t.oid = a.atttypid
    WHERE n.nspname = %(schema)s AND c.relname = %(name)s AND a.attnum > 0 AND NOT a.attisdropped
      AND a.attgenerated <> 'v'  -- virtual: triggers do not see its value, so changes have a null there
    UNION ALL
    -- A domain compares as its base type does; that may be a domain too.
    SELECT typed.attnum, typed.attname, typed.attcollation, t.oid, t.typtype, t.typbasetype, typed.in_key
    FROM typed JOIN pg_catalog.pg_type AS t ON t.oid = typed.typbasetype
    WHERE typed.typtype = 'd'
), here AS (
    SELECT d.datcollate, d.datctype, pg_catalog.pg_encoding_to_char(d.encoding) = 'UTF8' AS utf8,
           coalesce(pg_catalog.to_jsonb(d) ->> 'datlocprovider', 'c') AS provider,
           pg_catalog.to_jsonb(d) ->> 'datlocale' AS locale
    FROM pg_catalog.pg_database AS d WHERE d.datname = pg_catalog.current_database()
), collated AS (
    SELECT c.oid, c.collisdeterministic, c.collprovider = 'd' AS is_default,
           pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.collname) AS name,
           CASE c.collprovider WHEN 'd' THEN here.provider ELSE c.collprovider::pg_catalog.text END AS provider,
           CASE c.collprovider WHEN 'd' THEN here.datcollate ELSE c.collcollate END AS sorting,
           CASE c.collprovider WHEN 'd' THEN here.datctype ELSE c.collctype END AS letters,
           CASE c.collprovider WHEN 'd' THEN here.locale ELSE pg_catalog.to_jsonb(c) ->> 'colllocale' END AS locale
    FROM here CROSS JOIN pg_catalog.pg_collation AS c
    JOIN pg_catalog.pg_namespace AS n ON n.oid = c.collnamespace
), letters AS (
    -- What lower() makes of: the Kelvin sign and the dotted I, the two beyond ASCII that become ASCII somewhere; an I
    -- with an accent, and the accent alone. Only the database's own collation can be asked without naming it. From an
    -- array, and none for other encodings: a constant would be computed while planning, where it may be an error.
    SELECT pg_catalog.array_agg(pg_catalog.lower(pg_catalog.chr(l.code)) ORDER BY l.place) AS lowered
    FROM here
    CROSS JOIN pg_catalog.unnest(CASE WHEN here.utf8 THEN ARRAY[8490, 304, 204, 768] END)
        WITH ORDINALITY AS l (code, place)
), folded AS (
    -- Turkish, Azeri and Lithuanian do more to ASCII letters than A to a.
    SELECT CASE WHEN pg_catalog.lower('ABCDEFGHIJKLMNOPQRSTUVWXYZ') = 'abcdefghijklmnopqrstuvwxyz'
                     AND pg_catalog.lower('I' || lowered[4]) = 'i' || lowered[4]
                     AND pg_catalog.char_length(lowered[3]) = 1 THEN lowered[1:2] END AS special
    FROM letters
)
SELECT
    typed.attname::pg_catalog.text,
    -- Types of others always with their schema, PostgreSQL's own without.
    CASE WHEN n.nspname = 'pg_catalog'
         THEN pg_catalog.regexp_replace(pg_catalog.format_type(t.oid, NULL), '^pg_catalog[.]', '')
         ELSE pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(t.typname) END,
    ARRAY(
        SELECT e.enumlabel::pg_catalog.text FROM pg_catalog.pg_enum AS e
        WHERE e.enumtypid = t.oid ORDER BY e.enumsortorder
    ),
    -- Whether JSON's null is SQL's: json and jsonb have a null of their own, and so may types with a cast to json; a
    -- row of nulls is a null itself.
    t.typtype <> 'c' AND NOT (n.nspname = 'pg_catalog' AND t.typname IN ('json', 'jsonb')) AND NOT EXISTS (
        SELECT FROM pg_catalog.pg_cast AS k JOIN pg_catalog.pg_type AS j ON j.oid = k.casttarget
        WHERE k.castsource = t.oid AND j.typname = 'json'
    ),
    typed.in_key,
    collated.name,
    collated.collisdeterministic,
    -- In UTF-8 the order of bytes, which C compares, is the order of code points.
    here.utf8 AND (collated.provider = 'b' OR collated.provider = 'c' AND collated.sorting IN ('C', 'POSIX')),
    CASE WHEN collated.provider = 'c' AND collated.letters IN ('C', 'POSIX')
              OR collated.provider = 'b' AND collated.locale = 'C' THEN '{}'
         WHEN collated.is_default THEN folded.special END
FROM typed
JOIN pg_catalog.pg_type AS t ON t.oid = typed.oid
JOIN pg_catalog.pg_namespace AS n ON n.oid = t.typnamespace
CROSS JOIN here
CROSS JOIN folded
LEFT JOIN collated ON collated.oid = typed.attcollation
WHERE typed.typtype <> 'd'
ORDER BY typed.attnum
