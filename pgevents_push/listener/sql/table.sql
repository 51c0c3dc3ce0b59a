-- Where a table is, how it is written, and whether our role may read all of its rows. No row: there is no such table.
-- Parameters: schema, table.
SELECT c.oid::bigint, c.relkind::text, quote_ident(n.nspname), quote_ident(c.relname), quote_ident(current_user),
       has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT'), row_security_active(c.oid)
FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname = %(schema)s AND c.relname = %(table)s AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
