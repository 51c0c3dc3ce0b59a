-- As whom a table is looked at now, and whether policies restrict what is seen.
-- Parameters: oid.
SELECT current_user::text, row_security_active((%(oid)s)::oid)
