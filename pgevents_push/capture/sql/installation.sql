-- Which installation this log belongs to: a cursor of another one is a gap.
CREATE TABLE IF NOT EXISTS pgevents.installation (
  id uuid NOT NULL,
  installed_at timestamptz NOT NULL DEFAULT pg_catalog.now()
)
