-- The columns of a change, a part of since.sql and piece.sql: what is short joined into one text, since each column costs
-- the reader more than what is in it; and the two that may be large. JSON has no character 31 in it. What comes last may
-- be anything.
concat_ws(chr(31), l.id, l.xid, l.type, l.truncated, to_char(l.at, 'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"'), l.pk, l.changed,
          coalesce(l.old_pk, ''), json_build_array(l.schema_name, l.table_name), coalesce(l.actor, '')) AS short,
l.new_row, l.old_row
