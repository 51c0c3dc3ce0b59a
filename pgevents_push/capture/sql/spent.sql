-- The numbers of tickets that were used. A ticket is good for seconds; its number is kept for an hour, because the
-- clocks of hosts differ.
CREATE TABLE IF NOT EXISTS pgevents.spent (
  number text PRIMARY KEY CHECK (length(number) <= 100),
  at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
)
