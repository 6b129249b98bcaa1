-- Decoding options: what each does, and what is wrong with it.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS gpt2;
SET gpt2.model = 'demo';
CREATE FUNCTION pg_temp.try(command text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    state text; message text; detail text; hint text;
BEGIN
    EXECUTE command;
    RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT,
        detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    RETURN concat_ws(' | ', state, message, nullif(detail, ''), nullif(hint, ''));
END $$;
-- one option of gpt_generate; the hints that list all keys are cut
CREATE FUNCTION pg_temp.option(options text) RETURNS text LANGUAGE sql AS
$$ SELECT regexp_replace(pg_temp.try(format('SELECT gpt_generate(''The'', 4, options => %L)',
    options)), 'Valid keys are .*', 'Valid keys are ...') $$;
\pset format unaligned
\pset tuples_only on

-- neutral values change nothing
CREATE TEMP TABLE prompts(prompt text);
INSERT INTO prompts VALUES ('The printer'), ('My new tablet'), ('Customer: '), ('I ordered');
SELECT bool_and(gpt_generate(prompt, 12) = gpt_generate(prompt, 12, options => '{"typical_p": 1,
    "presence_penalty": 0, "frequency_penalty": 0, "no_repeat_ngram_size": 0, "min_new_tokens": 0,
    "num_beams": 1, "logit_bias": {}, "add_start": false}')) FROM prompts;
SELECT bool_and(gpt_generate(prompt, 12, temperature => 1, seed => 7) =
    gpt_generate(prompt, 12, temperature => 1, seed => 7, options => '{"typical_p": 1.0}'))
FROM prompts;

-- typical_p keeps what is as surprising as expected
SELECT count(DISTINCT gpt_generate('The', 1, temperature => 1, seed => i,
    options => '{"typical_p": 0.01}')) < count(DISTINCT gpt_generate('The', 1, temperature => 1,
    seed => i)) FROM generate_series(1, 40) i;
SELECT gpt_generate('The printer', 9, options => '{"typical_p": 0.2}') =
    gpt_generate('The printer', 9) AS greedy_stays;

-- penalties: a large one lets no token come twice, a negative one brings the same one again
SELECT bool_and(cardinality(token_ids) = (SELECT count(DISTINCT id) FROM unnest(token_ids) id))
FROM prompts, gpt_completions(prompt, 40, options => '{"presence_penalty": 100}');
SELECT bool_and(cardinality(token_ids) = (SELECT count(DISTINCT id) FROM unnest(token_ids) id))
FROM prompts, gpt_completions(prompt, 40, options => '{"frequency_penalty": 100}');
SELECT bool_and((SELECT count(DISTINCT id) FROM unnest(token_ids) id) = 1)
FROM prompts, gpt_completions(prompt, 10, options => '{"frequency_penalty": -100}');

-- no_repeat_ngram_size: no n tokens of prompt and answer come twice
SELECT n, bool_and(NOT EXISTS (
    SELECT FROM generate_series(1, cardinality(ids) - n + 1) i
    GROUP BY ids[i : i + n - 1] HAVING count(*) > 1))
FROM generate_series(1, 4) n, LATERAL (
    SELECT gpt_tokenize(prompt) || token_ids AS ids
    FROM prompts, gpt_completions(prompt, 60,
        options => jsonb_build_object('no_repeat_ngram_size', n))) q
GROUP BY n ORDER BY n;

-- logit_bias: towards a token, away from one
SELECT bool_and(token_ids = array_fill(42, ARRAY[5]))
FROM prompts, gpt_completions(prompt, 5, options => '{"logit_bias": {"42": 100, "7": 50}}');
SELECT bool_and(token_ids[1] <> other[1])
FROM (SELECT prompt, token_ids AS other FROM prompts, gpt_completions(prompt, 1)) q,
    gpt_completions(prompt, 1, options => jsonb_build_object('logit_bias',
        jsonb_build_object(other[1], -100)));

-- min_new_tokens: the end token does not come before
SELECT bool_or(a.completion_tokens < 40) AS some_end, bool_and(b.completion_tokens >= 40)
FROM prompts, gpt_completions(prompt, 60) a,
    gpt_completions(prompt, 60, options => '{"min_new_tokens": 40}') b;
SELECT finish_reason, completion_tokens FROM gpt_completions('The printer', 9, stop => '{" "}',
    options => '{"min_new_tokens": 9}');

-- add_start: one token more, the same text as with it
SELECT a.prompt_tokens - b.prompt_tokens FROM gpt_completions('The printer', 3,
    options => '{"add_start": true}') a, gpt_completions('The printer', 3) b;
SELECT prompt_tokens FROM gpt_completions('', 3, options => '{"add_start": true}');
SELECT gpt_generate('The printer', options => '{"add_start": true, "max_length": 12, "echo": true}')
    LIKE 'The printer%';

-- beams: not worse than greedy, in order, all different, the same when asked again
SELECT bool_and(beam.logprob >= greedy.logprob - 1e-9)
FROM prompts, LATERAL gpt_completions(prompt, 12, options => '{"num_beams": 6,
        "length_penalty": 0, "min_new_tokens": 12}') beam,
    LATERAL gpt_completions(prompt, 12, options => '{"min_new_tokens": 12}') greedy;
SELECT count(*), count(DISTINCT token_ids), bool_and(logprob / completion_tokens <= coalesce(before, 0)),
    count(seed)
FROM (SELECT *, lag(logprob / completion_tokens) OVER (ORDER BY seq) AS before
    FROM gpt_completions('My new tablet', 15, n => 5, options => '{"num_beams": 5}')) q;
SELECT gpt_generate_array('The printer', 10, n => 3, options => '{"num_beams": 4}') =
    gpt_generate_array('The printer', 10, n => 3, options => '{"num_beams": 4, "cache": false}');
SELECT (gpt_generate_array('The printer', 10, n => 3, options => '{"num_beams": 4}'))[1] =
    gpt_generate('The printer', 10, options => '{"num_beams": 4}');
SELECT count(*) FROM gpt_generate('The printer', 10, n => 2, options => '{"num_beams": 4}');
SELECT gpt_summarize('The printer is broken. It does not print.', 9, options => '{"num_beams": 3}')
    IS NOT NULL;
-- longer texts with a larger length_penalty
SELECT sum(short.completion_tokens) < sum(long.completion_tokens)
FROM prompts, LATERAL gpt_completions(prompt, 40, options => '{"num_beams": 4,
        "length_penalty": -5}') short,
    LATERAL gpt_completions(prompt, 40, options => '{"num_beams": 4, "length_penalty": 5}') long;
-- a stop string ends a beam
SELECT bool_and(completion NOT LIKE '%.%'), bool_and(finish_reason IN ('stop', 'length', 'eos'))
FROM gpt_completions('The printer', 20, n => 4, stop => '{.}', options => '{"num_beams": 4}');
-- many rows of a query, one call each, and equal ones merged
SELECT count(DISTINCT text), bool_and(text = gpt_generate('The printer', 8,
    options => '{"num_beams": 3}'))
FROM (SELECT gpt_generate('The printer', 8, options => '{"num_beams": 3}') AS text
    FROM generate_series(1, 20) OFFSET 0) q;
SELECT count(DISTINCT text) > 1 FROM (
    SELECT gpt_generate('The printer', 8, options => jsonb_build_object('num_beams', i,
        'logit_bias', jsonb_build_object(i, 20))) AS text
    FROM generate_series(1, 4) i OFFSET 0) q;

-- all together, one by one and in flight
SELECT bool_and(a = b) FROM (
    SELECT gpt_generate(prompt, 20, temperature => 0.9, seed => 3, options => o) AS a,
        (gpt_generate_array(prompt, 20, 1, temperature => 0.9, seed => 3, options => o))[1] AS b
    FROM prompts, (SELECT jsonb '{"typical_p": 0.7, "presence_penalty": 0.5,
        "frequency_penalty": 0.3, "no_repeat_ngram_size": 3, "logit_bias": {"5": 1},
        "min_new_tokens": 10, "min_p": 0.01, "repetition_penalty": 1.1}' AS o) o) q;

-- wrong values
SELECT pg_temp.option('{"typical_p": 0}');
SELECT pg_temp.option('{"typical_p": 1.01}');
SELECT pg_temp.option('{"typical_p": "1"}');
SELECT pg_temp.option('{"presence_penalty": -101}');
SELECT pg_temp.option('{"presence_penalty": true}');
SELECT pg_temp.option('{"frequency_penalty": 100.5}');
SELECT pg_temp.option('{"frequency_penalty": []}');
SELECT pg_temp.option('{"no_repeat_ngram_size": -1}');
SELECT pg_temp.option('{"no_repeat_ngram_size": 1025}');
SELECT pg_temp.option('{"no_repeat_ngram_size": 2.5}');
SELECT pg_temp.option('{"min_new_tokens": -1}');
SELECT pg_temp.option('{"min_new_tokens": 5}');
SELECT pg_temp.try($$SELECT gpt_generate('The', options => '{"min_new_tokens": 9, "max_length": 8}')$$);
SELECT pg_temp.option('{"min_new_tokens": "4"}');
SELECT pg_temp.option('{"num_beams": 0}');
SELECT pg_temp.option('{"num_beams": 65}');
SELECT pg_temp.option('{"num_beams": 1.5}');
SELECT pg_temp.option('{"length_penalty": 1}');
SELECT pg_temp.option('{"length_penalty": 1, "num_beams": 1}');
SELECT pg_temp.option('{"length_penalty": -11, "num_beams": 2}');
SELECT pg_temp.option('{"length_penalty": "1", "num_beams": 2}');
SELECT pg_temp.option('{"add_start": 1}');
SELECT pg_temp.option('{"logit_bias": 1}');
SELECT pg_temp.option('{"logit_bias": [1]}');
SELECT pg_temp.option('{"logit_bias": {"a": 1}}');
SELECT pg_temp.option('{"logit_bias": {"": 1}}');
SELECT pg_temp.option('{"logit_bias": {"-1": 1}}');
SELECT pg_temp.option('{"logit_bias": {"01": 1}}');
SELECT pg_temp.option('{"logit_bias": {"262144": 1}}');
SELECT pg_temp.option('{"logit_bias": {"1000000": 1}}');
SELECT pg_temp.option('{"logit_bias": {"1": "a"}}');
SELECT pg_temp.option('{"logit_bias": {"1": null}}');
SELECT pg_temp.option('{"logit_bias": {"1": {"2": 3}}}');
SELECT pg_temp.option('{"logit_bias": {"1": 100.1}}');
SELECT pg_temp.option('{"logit_bias": {"1": -1e300}}');
SELECT pg_temp.option('{"logit_bias": {"200000": 1}}');
SELECT pg_temp.option(jsonb_object_agg('logit_bias', o)::text) FROM (
    SELECT jsonb_object_agg(i, 1) AS o FROM generate_series(1, 1025) i) q;
-- beams and sampling, beams and n, beams and streams
SELECT pg_temp.try($$SELECT gpt_generate('The', 4, temperature => 1, options => '{"num_beams": 2}')$$);
SET gpt2.temperature = 0.5;
SELECT pg_temp.option('{"num_beams": 2}');
SELECT pg_temp.try($$SELECT gpt_generate('The', 4, temperature => 0, options => '{"num_beams": 2}')$$);
RESET gpt2.temperature;
SELECT pg_temp.try($$SELECT gpt_generate_array('The', 4, 3, options => '{"num_beams": 2}')$$);
SELECT pg_temp.try($$SELECT gpt_generate('The', 20000, options => '{"num_beams": 64}')$$);
SELECT regexp_replace(pg_temp.try($$SELECT gpt_stream('The', 4, options => '{"num_beams": 2}')$$),
    'Valid keys are .*', 'Valid keys are ...');
SELECT regexp_replace(pg_temp.try($$SELECT gpt_loss('The', options => '{"num_beams": 2}')$$),
    'Valid keys are .*', 'Valid keys are ...');
SELECT regexp_replace(pg_temp.try($$SELECT gpt_classify('The', '{a,b}', options => '{"logit_bias": {"1": 2}}')$$),
    'Valid keys are .*', 'Valid keys are ...');

-- beams and constraints; other options give way to a constraint
SELECT pg_temp.try($$SELECT gpt_generate('The', 4, options => '{"num_beams": 2, "choice": ["a"]}')$$);
SELECT bool_and(gpt_generate(prompt, 40, temperature => 1, seed => 1, options => o) ~ '^(no){4,6}$')
FROM prompts, (VALUES
    (jsonb '{"regex": "(no){4,6}", "no_repeat_ngram_size": 1}'),
    ('{"regex": "(no){4,6}", "min_new_tokens": 40}'),
    ('{"regex": "(no){4,6}", "presence_penalty": 100, "frequency_penalty": 100}'),
    ('{"regex": "(no){4,6}", "typical_p": 0.1, "add_start": true}'),
    ('{"regex": "(no){4,6}", "logit_bias": {"1": 100, "2": 100, "3": 100}}')) AS v (o);

-- a call is estimated with all of its beams
CREATE FUNCTION pg_temp.estimate(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    line text;
BEGIN
    FOR line IN EXECUTE 'EXPLAIN ' || query LOOP
        IF line LIKE '%Estimated%' THEN
            RETURN regexp_replace(line, '^ *(.* tokens).*', '\1');
        END IF;
    END LOOP;
END $$;
SELECT pg_temp.estimate($$SELECT gpt_generate('The', 100) FROM generate_series(1, 1000)$$);
SELECT pg_temp.estimate($$SELECT gpt_generate('The', 100, options => '{"num_beams": 10}')
    FROM generate_series(1, 1000)$$);
SELECT pg_temp.estimate($$SELECT gpt_generate_array('The', 100, 3, options => '{"num_beams": 4}')
    FROM generate_series(1, 1000)$$);
