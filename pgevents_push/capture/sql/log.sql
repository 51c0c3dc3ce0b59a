-- The log: one row for each change, in the writer's own transaction. All text is JSON that PostgreSQL made.
-- The sequence must not be cached: inside a transaction, and for each row, ids have to follow the changes.
-- It is a ring: the clock chooses the slot (log_slots.sql), and pgevents.prune_v1() empties old slots.
CREATE TABLE IF NOT EXISTS pgevents.log (
  id bigint GENERATED ALWAYS AS IDENTITY (CACHE 1),
  xid xid8 NOT NULL DEFAULT pg_catalog.pg_current_xact_id(),
  at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
  schema_name text NOT NULL,
  table_name text NOT NULL,
  type "char" NOT NULL,
  pk text NOT NULL,
  old_pk text,
  new_row text,
  old_row text,
  changed text NOT NULL DEFAULT '[]',
  actor text,
  truncated boolean NOT NULL DEFAULT false,
  slot smallint NOT NULL
) PARTITION BY LIST (slot)
