-- Settings for the rest of the transaction: the same row is to be the same text as in an event, so these are those of
-- capture/sql/settings.sql. Behind row security some rows would be missing without a word: better an error. And the
-- planner is let go, which is held to the index of the log.
SELECT set_config('search_path', 'pg_catalog, pg_temp', true), set_config('DateStyle', 'ISO, YMD', true),
       set_config('IntervalStyle', 'postgres', true), set_config('extra_float_digits', '1', true),
       set_config('bytea_output', 'hex', true), set_config('xmlbinary', 'base64', true),
       set_config('row_security', 'off', true),
       set_config('enable_seqscan', NULL, true), set_config('enable_bitmapscan', NULL, true)
