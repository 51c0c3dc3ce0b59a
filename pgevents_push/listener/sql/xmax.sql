-- One past the last transaction that has ended, in 64 bits.
SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint
