-- What a table's trigger function is made for, as a text: this version of ours, and the table's columns.
pg_catalog.concat({stamp}, ' ', (
  SELECT pg_catalog.left(pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(
    coalesce(pg_catalog.string_agg(pg_catalog.concat_ws(' ', attnum, atttypid, attname), ',' ORDER BY attnum), ''),
    pg_catalog.getdatabaseencoding()
  )), 'hex'), 16)
  FROM pg_catalog.pg_attribute WHERE attrelid = {relation} AND attnum > 0 AND NOT attisdropped
))
