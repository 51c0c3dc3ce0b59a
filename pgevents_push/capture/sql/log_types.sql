-- The type of a row is i(nsert), u(pdate), d(elete), t(runcate), or g(ap), which is no change: see begin.sql. Only
-- functions of ours write it, so it is not checked: a CHECK is read and prepared anew for each row, which took a sixth
-- of what capturing it costs.
ALTER TABLE pgevents.log DROP CONSTRAINT IF EXISTS log_type_check
