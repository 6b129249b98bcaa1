-- on_error, truncate: calls that fail for their row alone, and texts that are cut.
SET client_min_messages = error;
CREATE EXTENSION IF NOT EXISTS gpt2;
SET client_min_messages = warning;
SET gpt2.model = 'demo';
\set VERBOSITY terse
-- ids 3, 6 and 9 do not fit
CREATE TEMP TABLE texts AS
    SELECT id, CASE WHEN id % 3 = 0 THEN repeat('My printer leaks. ', 2000) || id
                    ELSE 'My printer leaks ' || id || '.' END AS body
    FROM generate_series(1, 10) AS id;
ANALYZE texts;

-- the options: each word, another, another type
SELECT gpt_generate('My printer', 2, options => '{"on_error": "error", "truncate": "error"}');
SELECT gpt_generate('My printer', 2, options => '{"on_error": "null", "truncate": "left"}');
SELECT gpt_generate('My printer', 2, options => '{"on_error": null, "truncate": null}');
SELECT gpt_generate('My printer', 2, options => '{"on_error": "nul"}');
SELECT gpt_generate('My printer', 2, options => '{"on_error": true}');
SELECT gpt_generate('My printer', 2, options => '{"truncate": "middle"}');
SELECT gpt_generate('My printer', 2, options => '{"truncate": ["left"]}');
\set VERBOSITY default
SELECT gpt_embed('My printer', options => '{"truncate": "both"}');
\set VERBOSITY terse
-- the settings
SET gpt2.on_error = 'nil';
SET gpt2.truncate = 'middle';

-- an error of the row ends the statement, unless it is not to
SELECT id, gpt_generate(body, 4) FROM texts;
SELECT id, gpt_generate(body, 4, options => '{"on_error": "null"}') IS NULL AS failed FROM texts;
SET gpt2.on_error = 'null';
SELECT id, gpt_generate(body, 4) IS NULL AS failed FROM texts;
SELECT id, gpt_generate(body, 4, options => '{"on_error": "error"}') FROM texts;
SET gpt2.batch_rows = 1;
SELECT id, gpt_generate(body, 4) IS NULL AS failed FROM texts;
RESET gpt2.batch_rows;

-- every function
SELECT count(gpt_generate_array(body, 4, 2, seed => 1)) FROM texts;
SELECT count(*), count(g) FROM texts, gpt_generate(body, 4, n => 2, seed => 1) AS g;
SELECT id, seq, finish_reason, error, completion IS NULL AS no_text
FROM texts, gpt_completions(body, 4) WHERE id <= 3;
SELECT id, count(s) FROM texts LEFT JOIN gpt_stream(body, 4) AS s ON true WHERE id <= 3 GROUP BY id
ORDER BY id;
SELECT id, (s).pos FROM (SELECT id, gpt_stream(body, 2) AS s FROM texts WHERE id IN (2, 3)) AS q;
SELECT count(gpt_task(body, 'sentiment')) FROM texts;
SELECT gpt_summarize('x', 0), gpt_classify(repeat('x', 2000), '{a,b}', options => '{"truncate": "error"}'),
       gpt_filter(repeat('x', 2000), 'y?', options => '{"truncate": "error"}'),
       gpt_loss(repeat('x', 2000), options => '{"truncate": "error"}'),
       gpt_perplexity(repeat('x', 2000), options => '{"truncate": "error"}'),
       gpt_embed(repeat('x', 2000), options => '{"truncate": "error"}');
SELECT count(*) FROM gpt_label_probs(repeat('x', 2000), '{a,b}', options => '{"truncate": "error"}');
SELECT count(*) FROM gpt_logprobs(repeat('x', 2000), options => '{"truncate": "error"}');
CREATE TYPE pg_temp.grade AS ENUM ('good', 'bad');
SELECT gpt_classify(repeat('x', 2000), NULL::pg_temp.grade, options => '{"truncate": "error"}');
SELECT count(*), count(gpt_generate(body, -1)) FROM texts;
SELECT gpt_generate('', 2) IS NULL AS failed, gpt_generate(NULL, 2) IS NULL AS failed;
-- what is wrong in the options is wrong for all rows, also where only the engine can see it
SELECT id, gpt_generate(body, 4, options => '{"regex": "a(b"}') FROM texts;
SELECT id, gpt_generate(body, 4, options => '{"json_schema": {"type": "text"}}') FROM texts;
SELECT id, gpt_generate(body, 4, options => '{"logit_bias": {"200000": 1}}') FROM texts;
SELECT id, gpt_loss(body, options => '{"stride": 100000}') FROM texts;
SELECT id, gpt_generate(body, 4, options => jsonb_build_object('regex', repeat('(', 300) || repeat(')', 300)))
FROM texts;
SELECT id, gpt_summarize(body, 4, options => jsonb_build_object('template', repeat('x ', 2000) || '{input}'))
FROM texts;
SELECT id, gpt_classify(body, '{a,b}', options => jsonb_build_object('template', repeat('x ', 2000) || '{input}'))
FROM texts;
SELECT id, gpt_classify(body, ARRAY['a', repeat('世', 300)]) FROM texts;
SELECT id, gpt_classify(body, '{a,b}', options => '{"template": "{label} {input}"}') FROM texts;
-- and options that exclude each other, or an argument
SELECT id, gpt_generate(body, 4, options => '{"max_length": 20}') FROM texts;
SELECT id, gpt_generate(body, 4, options => '{"max_tokens": 4}') FROM texts;
SELECT id, gpt_generate(body, options => '{"max_length": 20, "max_tokens": 4}') FROM texts;
SELECT id, gpt_generate(body, 4, stop => '{x}', options => '{"stop": "y"}') FROM texts;
SELECT id, gpt_generate(body, 4, stop => '{x}', options => '{"regex": "a"}') FROM texts;
SELECT id, gpt_generate(body, 4, options => '{"stop": "y", "choice": ["a"]}') FROM texts;
SELECT id, gpt_generate(body, 4, options => '{"length_penalty": 1}') FROM texts;
SELECT id, gpt_generate(body, 4, temperature => 1, options => '{"num_beams": 2}') FROM texts;
SELECT id, gpt_generate(body, 4, options => '{"num_beams": 2, "regex": "a"}') FROM texts;
SELECT count(*) FROM texts, gpt_generate(body, 4, n => 2, options => '{"num_return_sequences": 2}');
-- but not lengths, which differ from row to row
SELECT count(*), count(gpt_generate('x', id::int, options => '{"min_new_tokens": 3}')) FROM texts;
-- nor what may be for want of room
SELECT id, gpt_generate(body, 2, options => '{"choice": ["a b c d e f g"]}') FROM texts WHERE id = 1;

-- two functions in one statement: one warning
SELECT count(gpt_generate(body, 4)), count(gpt_task(body, 'sentiment')) FROM texts;
-- other statements
UPDATE texts SET body = coalesce(gpt_generate(body, 4), 'none') WHERE id <= 3;
SELECT count(*) FROM texts WHERE body = 'none';
CREATE TEMP TABLE made AS SELECT id, gpt_generate(body, 4) AS made FROM texts;
CREATE FUNCTION pg_temp.counts(query text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE line text;
BEGIN
    FOR line IN EXECUTE 'EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) ' || query LOOP
        IF line ~ 'Requests:|Failed Calls:' THEN RETURN NEXT trim(line); END IF;
    END LOOP;
END $$;
SELECT pg_temp.counts($$SELECT gpt_generate(body, 4, options => '{"cache": false}')
                        FROM texts WHERE id = 6$$);
DO $$ BEGIN PERFORM gpt_generate(body, 4) FROM texts; PERFORM gpt_generate('x', 0); END $$;
DO $$ DECLARE t text; BEGIN FOR i IN 1..3 LOOP t := gpt_generate('x', i - 1); END LOOP; END $$;
-- of a cursor each FETCH is a statement
BEGIN;
DECLARE c CURSOR FOR SELECT id, gpt_generate(body, 4) IS NULL AS failed FROM texts;
FETCH 5 FROM c;
FETCH 5 FROM c;
COMMIT;
-- a statement that fails tells its error alone
SELECT gpt_generate(body, 4), 1 / (id - 9) FROM texts;
-- a query in a function belongs to the statement
CREATE FUNCTION pg_temp.failing(text) RETURNS text LANGUAGE plpgsql AS
$$ BEGIN RETURN (SELECT gpt_generate($1, 4)); END $$;
SELECT count(pg_temp.failing(body)) FROM texts;

-- not of the row
SELECT gpt_generate('My printer', 2, options => '{"on_error": "null", "min_q": 1}');
SELECT gpt_generate('My printer', 2, 'nosuch');
SELECT gpt_classify('My printer', '{}');
SET gpt2.max_tokens_per_call = 10;
SELECT gpt_generate('My printer leaks and leaks and leaks and leaks.', 10);
RESET gpt2.max_tokens_per_call;
RESET gpt2.on_error;

-- cut
SELECT gpt_generate(repeat('x ', 2000) || 'My printer', 4, options => '{"truncate": "left"}') =
       gpt_generate(gpt_detokenize(t[array_length(t, 1) - 507 :]), 4) AS left_of_508
FROM gpt_tokenize(repeat('x ', 2000) || 'My printer') AS t;
SET gpt2.truncate = 'right';
SELECT prompt_tokens, completion_tokens FROM gpt_completions(repeat('x ', 2000), 4);
SELECT prompt_tokens, completion_tokens <= 256 AS half
FROM gpt_completions(repeat('x ', 2000), 1000);
SELECT prompt_tokens FROM gpt_completions(repeat('x ', 2000), options => '{"max_length": 512}');
SELECT gpt_generate(repeat('x ', 2000), options => '{"max_length": 100}');
SELECT gpt_generate(repeat('x ', 2000), 4, options => '{"truncate": "error"}');
-- the template stays whole
SELECT gpt_task(repeat('My printer leaks water. I am very unhappy. ', 100), 'sentiment', max_len => 1)
    IN ('positive', 'negative') AS is_answer;
RESET gpt2.truncate;
-- a classification is cut at its end unless told otherwise
SELECT gpt_classify(body || repeat(' x', 2000), labels) AS standard,
       gpt_classify(body || repeat(' x', 2000), labels, options => '{"truncate": "right"}') AS r,
       gpt_classify(repeat('x ', 2000) || body, labels, options => '{"truncate": "left"}') AS l
FROM (VALUES ('My battery does not charge any more.', '{battery,delivery}'::text[])) AS v(body, labels);
SELECT gpt_classify(repeat('x', 2000), '{a,b}', options => '{"truncate": "error"}');
\set VERBOSITY default
SELECT gpt_filter(repeat('x', 2000), 'y?', options => '{"truncate": "error"}');
SELECT gpt_loss(repeat('x', 2000), options => '{"truncate": "error"}');
\set VERBOSITY terse
-- scores of one window
SELECT count(*) FROM gpt_logprobs(repeat('x ', 2000));
SELECT count(*) FROM gpt_logprobs(repeat('x ', 2000), options => '{"truncate": "left"}');
SELECT gpt_loss(repeat('x ', 2000), options => '{"truncate": "right"}') =
       gpt_loss(gpt_detokenize(t[: 512])) AS right_of_512
FROM gpt_tokenize(repeat('x ', 2000)) AS t;
SELECT gpt_embed(repeat('x ', 2000) || 'My printer', options => '{"truncate": "left"}') =
       gpt_embed(gpt_detokenize(t[array_length(t, 1) - 511 :])) AS left_of_512
FROM gpt_tokenize(repeat('x ', 2000) || 'My printer') AS t;
