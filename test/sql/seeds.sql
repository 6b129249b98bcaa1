-- Where the randomness of a sampling call comes from.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS gpt2;
SET gpt2.model = 'demo';

-- an explicit seed: the same text
SELECT gpt_generate('The', 8, temperature => 1, seed => 3) =
       gpt_generate('The', 8, temperature => 1, seed => 3) AS same;

-- without one, setseed() decides, for every row of a query (the prompt mentions i, since a call
-- in FROM that depends on no row is evaluated once)
CREATE TEMP TABLE draws (run int, i int, seed bigint, completion text);
SELECT setseed(0.25);
INSERT INTO draws SELECT 1, i, c.seed, completion
FROM generate_series(1, 4) AS i, gpt_completions(left('The', 3 + i), 3, temperature => 1) AS c;
INSERT INTO draws SELECT 2, i, c.seed, completion
FROM generate_series(1, 4) AS i, gpt_completions(left('The', 3 + i), 3, temperature => 1) AS c;
SELECT setseed(0.25);
INSERT INTO draws SELECT 3, i, c.seed, completion
FROM generate_series(1, 4) AS i, gpt_completions(left('The', 3 + i), 3, temperature => 1) AS c;
SELECT count(DISTINCT seed) FROM draws;
SELECT count(*) FROM draws AS a JOIN draws AS b USING (i, seed, completion)
WHERE a.run = 1 AND b.run = 3;

-- a prefix of the rows is the same under LIMIT
SELECT setseed(0.25);
SELECT array_agg(seed) = (SELECT array_agg(seed ORDER BY i) FROM draws WHERE run = 1 AND i <= 2)
       AS same
FROM (SELECT c.seed FROM generate_series(1, 4) AS i,
      LATERAL gpt_completions(left('The', 3 + i), 3, temperature => 1) AS c LIMIT 2) AS q;

-- the seed that was used gives the text again
SELECT count(*) FROM draws WHERE gpt_generate('The', 3, temperature => 1, seed => seed) = completion;

-- a row's seed is SplitMix64 of the site's base (52 bits of random()) and the row's number
CREATE FUNCTION pg_temp.wrap(z numeric) RETURNS bigint LANGUAGE sql AS $$
    SELECT (CASE WHEN m >= 9223372036854775808 THEN m - 18446744073709551616 ELSE m END)::bigint
    FROM (SELECT mod(mod(z, 18446744073709551616) + 18446744073709551616,
                     18446744073709551616) AS m) AS q $$;
CREATE FUNCTION pg_temp.mix(base bigint, i int) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    z bigint := pg_temp.wrap(base + (i + 1) * 11400714819323198485::numeric);
BEGIN
    -- >> of bigint keeps the sign, so its copies are masked off
    z := pg_temp.wrap((z # ((z >> 30) & 17179869183)) * 13787848793156543929::numeric);
    z := pg_temp.wrap((z # ((z >> 27) & 137438953471)) * 10723151780598845931::numeric);
    RETURN z # ((z >> 31) & 8589934591);
END $$;
SELECT setseed(0.5);
SELECT trunc(random() * 4503599627370496)::bigint AS base \gset
SELECT setseed(0.5);
SELECT array_agg(c.seed ORDER BY i) = array_agg(pg_temp.mix(:base, i) ORDER BY i) AS documented
FROM generate_series(0, 4) AS i, gpt_completions(left('The', 3 + i), 1, temperature => 1) AS c;

-- greedy calls, and calls with a seed, leave random() alone
SELECT setseed(0.75);
SELECT random() AS next \gset
SELECT setseed(0.75);
SELECT length(gpt_generate('The', 2)) >= 0 AS greedy,
       length(gpt_generate('The', 2, temperature => 1, seed => 1)) >= 0 AS seeded;
SELECT random() = :next AS untouched;

-- sampling is set by the session too
SET gpt2.temperature = 0.8;
SELECT setseed(0.75);
SELECT gpt_generate('The', 8) AS text \gset
SELECT setseed(0.75);
SELECT gpt_generate('The', 8, temperature => 0.8) = :'text' AS same;
RESET gpt2.temperature;
