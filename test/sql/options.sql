-- The options argument: keys, synonyms, types, ranges, conflicts.
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
-- one option of gpt_generate
CREATE FUNCTION pg_temp.option(options text) RETURNS text LANGUAGE sql AS
$$ SELECT pg_temp.try(format('SELECT gpt_generate(''The'', 4, options => %L)', options)) $$;
\pset format unaligned
\pset tuples_only on

-- valid
SELECT pg_temp.option('{}');
SELECT pg_temp.option('{"min_p": 0.05, "repetition_penalty": 1.1, "echo": true, "stop": ["a"]}');
SELECT pg_temp.option('{"min_p": 0, "repeat_penalty": 1, "stop_sequences": "a"}');
SELECT pg_temp.option('{"min_p": 1, "stop_strings": []}');
SELECT pg_temp.option('{"min_p": null, "stop": null, "echo": null}');
SELECT pg_temp.option('{"cache": false}');
SELECT pg_temp.option('{"cache": true}');
SELECT pg_temp.try($$SELECT gpt_summarize('The', 4, options => '{"cache": false}')$$);
SELECT pg_temp.try($$SELECT gpt_generate('The', options => '{"max_new_tokens": 4}')$$);
SELECT pg_temp.try($$SELECT gpt_generate('The', options => '{"max_tokens": 4.0}')$$);
SELECT pg_temp.try($$SELECT gpt_generate('The', options => '{"max_length": 100}')$$);
SELECT pg_temp.try($$SELECT gpt_completions('The', 4, options => '{"num_return_sequences": 2}')$$);
SELECT pg_temp.try($$SELECT gpt_generate('The', 4, NULL::int, options => '{"num_return_sequences": 2}')$$);
SELECT pg_temp.try($$SELECT gpt_summarize('The', 4, options => '{"template": "{input} {other}:"}')$$);

-- not an object
SELECT pg_temp.option('[]');
SELECT pg_temp.option('1');
SELECT pg_temp.option('null');

-- unknown keys
SELECT pg_temp.option('{"min_q": 1}');
SELECT pg_temp.option('{"Min_p": 1}');
SELECT pg_temp.option('{"": 1}');
SELECT pg_temp.option(format('{"%s": 1}', repeat('k', 1000)));
SELECT pg_temp.option('{"temperature": 1}');
SELECT pg_temp.option('{"max_len": 1}');
SELECT pg_temp.option('{"top_k": 1}');
SELECT pg_temp.option('{"num_return_sequences": 3}');
SELECT pg_temp.option('{"template": "{input}"}');
SELECT pg_temp.try($$SELECT gpt_summarize('The', 4, options => '{"echo": true}')$$);
SELECT pg_temp.try($$SELECT gpt_summarize('The', 4, options => '{"temperature": 1}')$$);

-- wrong types
SELECT pg_temp.option('{"min_p": "0.5"}');
SELECT pg_temp.option('{"min_p": [0.5]}');
SELECT pg_temp.option('{"repetition_penalty": {}}');
SELECT pg_temp.option('{"echo": 1}');
SELECT pg_temp.option('{"echo": "true"}');
SELECT pg_temp.option('{"cache": 0}');
SELECT pg_temp.option('{"stop": 1}');
SELECT pg_temp.option('{"stop": {"a": "b"}}');
SELECT pg_temp.option('{"stop": ["a", 1]}');
SELECT pg_temp.option('{"stop": ["a", ["b"]]}');
SELECT pg_temp.option('{"stop": ["a", null]}');
SELECT pg_temp.try($$SELECT gpt_generate('The', options => '{"max_length": 4.5}')$$);
SELECT pg_temp.try($$SELECT gpt_summarize('The', 4, options => '{"template": 1}')$$);

-- out of range
SELECT pg_temp.option('{"min_p": -0.1}');
SELECT pg_temp.option('{"min_p": 1.1}');
SELECT pg_temp.option('{"min_p": 1e400}');
SELECT pg_temp.option('{"repetition_penalty": 0}');
SELECT pg_temp.option('{"repetition_penalty": -1}');
SELECT pg_temp.option('{"stop": ""}');
SELECT pg_temp.option('{"stop": ["a", ""]}');
SELECT pg_temp.try(format($$SELECT gpt_generate('The', 4, options => %L)$$,
                          jsonb_build_object('stop', array_fill('s'::text, ARRAY[65]))));
SELECT pg_temp.try($$SELECT gpt_generate('The', options => '{"max_length": 0}')$$);
SELECT pg_temp.try($$SELECT gpt_generate('The', options => '{"max_new_tokens": 1e300}')$$);
SELECT pg_temp.try($$SELECT gpt_completions('The', 4, options => '{"num_return_sequences": 0}')$$);
SELECT pg_temp.try($$SELECT gpt_summarize('The', 4, options => '{"template": "no place"}')$$);
SELECT pg_temp.try(format($$SELECT gpt_summarize('The', 4, options => '{"template": "{input}%s"}')$$,
                          repeat('x', 70000)));

-- conflicts
SELECT pg_temp.option('{"max_length": 50}');
SELECT pg_temp.option('{"max_new_tokens": 50}');
SELECT pg_temp.try($$SELECT gpt_generate('The', options => '{"max_length": 9, "max_tokens": 9}')$$);
SELECT pg_temp.try($$SELECT gpt_generate('The', options => '{"max_tokens": 9, "max_new_tokens": 9}')$$);
SELECT pg_temp.option('{"repeat_penalty": 1, "repetition_penalty": 1}');
SELECT pg_temp.option('{"stop": "a", "stop_strings": "a"}');
SELECT pg_temp.try($$SELECT gpt_generate('The', 4, stop => '{a}', options => '{"stop": "a"}')$$);
SELECT pg_temp.try($$SELECT gpt_generate('The', 4, n => 3, options => '{"num_return_sequences": 2}')$$);
SELECT pg_temp.try($$SELECT gpt_completions('The', 4, n => 3, options => '{"num_return_sequences": 2}')$$);

-- what the options do
SELECT gpt_generate('The printer', options => '{"max_tokens": 4}') = gpt_generate('The printer', 4);
SELECT gpt_generate('The printer', options => '{"max_new_tokens": 4}') = gpt_generate('The printer', 4);
SELECT cardinality(gpt_generate_array('The', 2, NULL, options => '{"num_return_sequences": 3}'));
SELECT gpt_generate('The printer', 9, options => '{"stop": [" "]}') =
       gpt_generate('The printer', 9, stop => ARRAY[' ']);
-- min_p 1 keeps the best token only, so sampling is greedy
SELECT gpt_generate('The printer', 9, temperature => 1, seed => 1, options => '{"min_p": 1}') =
       gpt_generate('The printer', 9);
