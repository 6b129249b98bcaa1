-- Bad arguments: each is refused with its SQLSTATE, and the session goes on.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS gpt2;
SET gpt2.model = 'demo';

-- the error of a command with its texts, or only its SQLSTATE where the engine words it
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
CREATE FUNCTION pg_temp.state(command text) RETURNS text LANGUAGE sql AS
$$ SELECT left(pg_temp.try(command), 5) $$;
\pset format unaligned
\pset tuples_only on

-- max_len
SELECT pg_temp.try($$SELECT gpt_generate('x', 0)$$);
SELECT pg_temp.try($$SELECT gpt_generate('x', -1)$$);
SELECT pg_temp.try($$SELECT gpt_generate('x', 2147483647)$$);
SELECT pg_temp.try($$SELECT gpt_summarize('x', 0)$$);

-- n
SELECT pg_temp.try($$SELECT gpt_generate('x', 5, n => 0)$$);
SELECT pg_temp.try($$SELECT gpt_generate_array('x', 5, n => -1)$$);
SELECT pg_temp.try($$SELECT gpt_completions('x', 5, n => 257)$$);
SELECT pg_temp.try($$SELECT gpt_generate('x', 5, n => 2147483647)$$);
SELECT pg_temp.try($$SELECT gpt_generate('x', 100000, n => 200)$$);
SELECT pg_temp.try($$SELECT gpt_generate('x', NULL, n => 200, options => '{"max_length": 100000}')$$);

-- temperature, top_k, top_p
SELECT pg_temp.try($$SELECT gpt_generate('x', 5, temperature => -1)$$);
SELECT pg_temp.try($$SELECT gpt_generate('x', 5, temperature => 'NaN')$$);
SELECT pg_temp.try($$SELECT gpt_generate('x', 5, temperature => 'Infinity')$$);
SELECT pg_temp.try($$SELECT gpt_generate('x', 5, temperature => 1e-40)$$);
SELECT pg_temp.try($$SELECT gpt_generate('x', 5, n => 2, temperature => 0)$$);
SELECT pg_temp.try($$SELECT gpt_generate('x', 5, top_k => -1)$$);
SELECT pg_temp.try($$SELECT gpt_generate('x', 5, temperature => 1, top_k => 2147483647)$$);
SELECT pg_temp.try($$SELECT gpt_generate('x', 5, top_p => 0)$$);
SELECT pg_temp.try($$SELECT gpt_generate('x', 5, top_p => 1.5)$$);
SELECT pg_temp.try($$SELECT gpt_generate('x', 5, top_p => 'NaN')$$);

-- stop
SELECT pg_temp.try($$SELECT gpt_generate('x', 5, stop => ARRAY['a', NULL])$$);
SELECT pg_temp.try($$SELECT gpt_generate('x', 5, stop => ARRAY['a', ''])$$);
SELECT pg_temp.try($$SELECT gpt_generate('x', 5, stop => ARRAY[['a'], ['b']])$$);
SELECT pg_temp.try($$SELECT gpt_generate('x', 5, stop => array_fill('s'::text, ARRAY[65]))$$);
SELECT pg_temp.try($$SELECT gpt_generate('x', 5, stop => array_fill('s'::text, ARRAY[100000]))$$);
SELECT pg_temp.try($$SELECT gpt_generate('x', 5, stop => ARRAY[repeat('s', 1025)])$$);
SELECT pg_temp.try($$SELECT gpt_generate('x', 5, stop => array_fill('s'::text, ARRAY[64]))$$);

-- prompts that do not fit
SELECT pg_temp.state($$SELECT gpt_generate(repeat('word ', 4000), 5)$$);
SELECT pg_temp.state($$SELECT gpt_generate(repeat('a', 1000000), 5)$$);
SELECT pg_temp.try($$SELECT gpt_generate(repeat('a', 40000000), 5)$$);
SELECT pg_temp.state($$SELECT gpt_generate('eleven words or more, that is what this prompt has, surely',
                                           options => '{"max_length": 3}')$$);

-- model names
SELECT pg_temp.state($$SELECT gpt_generate('x', 5, model => '')$$);
SELECT pg_temp.state($$SELECT gpt_generate('x', 5, model => '../demo')$$);
SELECT pg_temp.state($$SELECT gpt_generate('x', 5, model => '/etc')$$);
SELECT pg_temp.state($$SELECT gpt_generate('x', 5, model => '.hidden')$$);
SELECT pg_temp.state($$SELECT gpt_generate('x', 5, model => repeat('m', 300))$$);
SELECT pg_temp.state($$SELECT gpt_generate('x', 5, model => 'no such model')$$);
SELECT pg_temp.state($$SELECT gpt_tokenize('x', model => 'no such model')$$);
SELECT pg_temp.state($$SELECT gpt_load_model('no such model')$$);
SELECT pg_temp.try($$SELECT gpt_load_model(NULL)$$);
SELECT pg_temp.try($$SELECT gpt_unload_model(NULL)$$);
SELECT pg_temp.state($$SELECT gpt_load_model('demo', 'f99')$$);
SELECT pg_temp.state($$SELECT gpt_load_model('demo', NULL, 'toaster')$$);

-- token ids
SELECT pg_temp.try($$SELECT gpt_detokenize(ARRAY[1, NULL])$$);
SELECT pg_temp.try($$SELECT gpt_detokenize(ARRAY[1, -1])$$);
SELECT pg_temp.try($$SELECT gpt_detokenize(ARRAY[[1], [2]])$$);
SELECT pg_temp.state($$SELECT gpt_detokenize(ARRAY[2147483647])$$);

-- a NULL prompt is NULL before anything else is looked at
SELECT pg_temp.try($$SELECT gpt_generate(NULL, -1)$$);

-- and all of this was only refused
SELECT length(gpt_generate('x', 2)) >= 0;
