-- A version before this one did not write down which tables it captured; their triggers say so.
INSERT INTO pgevents.captured (schema_name, table_name)
SELECT pg_catalog.convert_from(f.schema_name, e.name), pg_catalog.convert_from(f.table_name, e.name)
FROM pg_catalog.pg_trigger t
CROSS JOIN (SELECT pg_catalog.getdatabaseencoding() AS name) e
CROSS JOIN LATERAL (
  SELECT pg_catalog."position"(t.tgargs, pg_catalog.decode('00', 'hex')) AS at
) s
CROSS JOIN LATERAL (
  SELECT pg_catalog.substr(t.tgargs, 1, s.at - 1) AS schema_name, pg_catalog.substr(t.tgargs, s.at + 1) AS rest
) r
CROSS JOIN LATERAL (
  SELECT r.schema_name, pg_catalog.substr(r.rest, 1, pg_catalog."position"(r.rest, pg_catalog.decode('00', 'hex')) - 1) AS table_name
) f
JOIN pg_catalog.pg_proc p ON p.oid = t.tgfoid AND p.pronamespace = 'pgevents'::pg_catalog.regnamespace
WHERE t.tgname = '!pgevents_row' AND t.tgparentid = 0
ON CONFLICT DO NOTHING
