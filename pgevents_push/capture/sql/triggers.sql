-- The triggers of a table by mode. `type` is how pg_trigger has it: 1 for each row, 2 before, 4 insert, 8 delete, 16 update,
-- 32 truncate. `function` is one for all tables, NULL the table's own.
(VALUES
  ('row', '!pgevents_row', 29, 'AFTER INSERT OR UPDATE OR DELETE', 'FOR EACH ROW', NULL),
  ('row', '!pgevents_truncate', 32, 'AFTER TRUNCATE', 'FOR EACH STATEMENT', NULL),
  ('key', '!pgevents_row', 29, 'AFTER INSERT OR UPDATE OR DELETE', 'FOR EACH ROW', NULL),
  ('key', '!pgevents_truncate', 32, 'AFTER TRUNCATE', 'FOR EACH STATEMENT', NULL),
  ('statement', '!pgevents_opened', 30, 'BEFORE INSERT OR UPDATE OR DELETE', 'FOR EACH STATEMENT', 'opened_v1'),
  ('statement', '!pgevents_insert', 4, 'AFTER INSERT', 'REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT', NULL),
  ('statement', '!pgevents_update', 16, 'AFTER UPDATE',
    'REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT', NULL),
  ('statement', '!pgevents_delete', 8, 'AFTER DELETE', 'REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT', NULL),
  ('statement', '!pgevents_truncate', 32, 'AFTER TRUNCATE', 'FOR EACH STATEMENT', NULL)
) AS triggers (mode, name, type, events, how, function)
