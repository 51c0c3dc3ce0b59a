-- How long and how much the log keeps: one row for the database, because several applications share the log.
CREATE TABLE IF NOT EXISTS pgevents.retention (
  seconds double precision NOT NULL CHECK (seconds > 0),
  rows bigint NOT NULL CHECK (rows > 0),
  -- The length of a slot; only this row and the default of pgevents.log.slot know it, and they change together.
  period double precision NOT NULL CHECK (period > 0),
  -- Since when slots have this length. What is older may lie in any slot.
  since timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
  one boolean PRIMARY KEY DEFAULT true CHECK (one)
)
