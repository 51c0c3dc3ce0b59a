-- Which tables were ever captured. One that is captured again may have changed in between, and nobody knows how.
CREATE TABLE IF NOT EXISTS pgevents.captured (
  schema_name text NOT NULL,
  table_name text NOT NULL,
  PRIMARY KEY (schema_name, table_name)
)
