-- For taking away the oldest.
CREATE INDEX IF NOT EXISTS spent_at ON pgevents.spent (at)
