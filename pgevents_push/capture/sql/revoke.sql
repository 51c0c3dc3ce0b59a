-- Ends the streams of an identity in all processes. Its word travels as a change of a table that does not exist: the
-- log brings it to every listener, in order with the changes, and nobody who may not call this can write there.
-- Any program that was let in may call it, best in the transaction that takes the rights away.
CREATE OR REPLACE FUNCTION pgevents.revoke_v1(identity text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
  IF coalesce(identity, '') = '' THEN
    RAISE null_value_not_allowed USING MESSAGE = 'pgevents.revoke_v1() takes an identity';
  END IF;
  INSERT INTO pgevents.log (schema_name, table_name, type, pk)
  VALUES ('pgevents', 'revoked', 'i', json_build_object('identity', identity)::text);
  IF current_setting('pgevents.rang', true) IS DISTINCT FROM pg_current_xact_id()::text THEN
    PERFORM pgevents.ring_v1();
  END IF;
END
$function$
