-- Which slots may be emptied, oldest first; pure arithmetic. A slot's age is how many periods ago it was current.
-- Never the current one (age 0), and never the next (age slots - 1): from the next boundary on fresh rows go there,
-- and would go with the old ones. So a slot that was missed keeps its rows for another round.
-- By time: nothing has been written to it for `seconds`. By rows: it and all newer ones hold more than `most`; then
-- it is left alone for a moment, in which whoever reads along reads it.
-- `counts` has the rows of each slot, NULL where there is nothing to empty. `now`, `since` are seconds of the clock.
CREATE OR REPLACE FUNCTION pgevents.due_v1(
  now double precision, since double precision, period double precision, seconds double precision,
  most bigint, counts bigint[]
) RETURNS smallint[]
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $function$
  WITH ring AS (
    SELECT floor(now / period) AS turn, cardinality(counts) AS slots
  ), slot AS (
    SELECT number - 1 AS slot, n, slots, turn,
      mod(mod(turn::bigint, slots) - (number - 1) + slots, slots) AS age
    FROM ring, unnest(counts) WITH ORDINALITY AS c (n, number)
  ), aged AS (
    SELECT slot, n, slots, age, now - greatest((turn - age + 1) * period, since) AS quiet,
      sum(coalesce(n, 0)) OVER (ORDER BY mod(age + 1, slots)) AS newer_and_this
    FROM slot
  )
  SELECT coalesce(array_agg(slot::smallint ORDER BY age DESC), '{}')
  FROM aged
  WHERE n IS NOT NULL AND age BETWEEN 1 AND slots - 2
    AND (quiet >= seconds OR newer_and_this > most AND quiet >= least(10, period))
$function$
