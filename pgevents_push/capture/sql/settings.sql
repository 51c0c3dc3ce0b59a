-- The settings under which the values of a table become the same JSON in every session, as clauses of its function.
-- Only those that its types depend on: each costs 2 us of a change's 25 to set and to take back.
CREATE OR REPLACE FUNCTION pgevents.settings_v1(target oid) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $function$
  WITH used AS (
    SELECT t.typname, t.typtype, t.typnamespace FROM pg_attribute a
    JOIN pg_type c ON c.oid = a.atttypid
    JOIN pg_type t ON t.oid = CASE WHEN c.typcategory = 'A' AND c.typelem <> 0 THEN c.typelem ELSE c.oid END
    WHERE a.attrelid = target AND a.attnum > 0 AND NOT a.attisdropped
  ), needs (setting) AS (
    SELECT CASE
      WHEN typtype = 'e' THEN 'none'
      WHEN typnamespace <> 'pg_catalog'::regnamespace THEN 'all'
      WHEN typname IN ('int2', 'int4', 'int8', 'numeric', 'bool', 'oid', 'uuid', 'text', 'varchar', 'bpchar', 'char', 'name',
        'json', 'jsonb', 'date', 'time', 'timestamp', 'inet', 'cidr', 'macaddr') THEN 'none'
      WHEN typname = 'timestamptz' THEN 'TimeZone'
      WHEN typname IN ('float4', 'float8') THEN 'extra_float_digits'
      WHEN typname = 'bytea' THEN 'bytea_output'
      WHEN typname = 'interval' THEN 'IntervalStyle'
      ELSE 'all'
    END FROM used
  )
  SELECT coalesce(string_agg(clause, ' '), '')
  FROM (VALUES
    ('TimeZone', 'SET "TimeZone" = ''UTC'''),
    ('DateStyle', 'SET "DateStyle" = ''ISO, YMD'''),
    ('IntervalStyle', 'SET "IntervalStyle" = ''postgres'''),
    ('extra_float_digits', 'SET extra_float_digits = ''1'''),
    ('bytea_output', 'SET bytea_output = ''hex''')
  ) AS every (setting, clause)
  WHERE EXISTS (SELECT FROM needs WHERE needs.setting IN (every.setting, 'all'))
$function$
