-- Become somebody until the end of the transaction, which a statement behind this one in the same message ends. The
-- plans of policies are the planner's own business again, unlike those of the log.
-- Tables are found, and dates read, in the way that our role has everywhere else, and values are written as in the log: so
-- a snapshot and a change are judged alike.
-- Parameters: role, names, texts.
SELECT set_config('search_path', NULL, true), set_config('DateStyle', NULL, true), set_config('DateStyle', 'ISO', true),
       set_config('IntervalStyle', 'postgres', true),
       set_config('enable_seqscan', 'on', true), set_config('enable_bitmapscan', 'on', true),
       set_config('row_security', 'on', true), set_config('role', %(role)s, true),
       (SELECT count(set_config(s.name, s.text, true))
        FROM ROWS FROM (unnest((%(names)s)::text[]), unnest((%(texts)s)::text[])) AS s (name, text));
