-- What the listener asks for: the rows of transactions that its cursor has not seen.
CREATE INDEX IF NOT EXISTS log_xid_id ON pgevents.log (xid, id)
