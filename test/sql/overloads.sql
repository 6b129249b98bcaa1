-- Which gpt_generate a call means.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS gpt2;
SET gpt2.model = 'demo';
CREATE FUNCTION pg_temp.try(command text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    hint text;
BEGIN
    EXECUTE command;
    RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
    RETURN SQLSTATE || CASE WHEN hint LIKE '%n => 5%' THEN ', hint: n => 5' ELSE '' END;
END $$;

-- one text
SELECT pg_typeof(gpt_generate('The')), pg_typeof(gpt_generate('The', 2)),
       pg_typeof(gpt_generate('The', 2, 'demo'));
-- an untyped third argument is the model
SELECT pg_temp.try($$SELECT gpt_generate('The', 2, '5')$$) AS digits,
       pg_temp.try($$SELECT gpt_generate('The', 2, 'five')$$) AS name,
       pg_temp.try($$SELECT gpt_generate('The', 2, NULL)$$) AS null;
SELECT count(*) FROM gpt_generate('The', 2, NULL);
PREPARE third AS SELECT count(*) FROM gpt_generate('The', 2, $1);
SELECT parameter_types FROM pg_prepared_statements WHERE name = 'third';
EXECUTE third('demo');
SELECT pg_temp.try($$EXECUTE third('5')$$);
-- n by position with a type, and by name
SELECT count(*) FROM gpt_generate('The', 2, 3);
SELECT count(*) FROM gpt_generate('The', 2, '3'::int);
SELECT count(*) FROM gpt_generate('The', 2, n => 3);
SELECT count(*) FROM gpt_generate('The', NULL, n => 3);
SELECT count(*) FROM gpt_generate('The', 2, n => NULL);
PREPARE named AS SELECT count(*) FROM gpt_generate($1, 2, n => $2);
SELECT parameter_types FROM pg_prepared_statements WHERE name = 'named';
EXECUTE named('The', 4);
SELECT count(*) FROM gpt_generate('The', 2, 3, 'demo');
SELECT count(*) FROM gpt_generate('The', 2, 3, model => 'demo', seed => 1);
-- n needs a max_len
SELECT gpt_generate('The', n => 3);
-- four arguments: a number is the temperature, a text behind n the model
SELECT count(*) FROM gpt_generate('The', 2, NULL, 0.7);
SELECT count(*) FROM gpt_generate('The', 2, 'demo', 1);
-- from other types of text
SELECT gpt_generate('The'::varchar, 2) = gpt_generate('The', 2) AS varchar,
       gpt_generate('The'::name, 2::smallint) = gpt_generate('The', 2) AS name;
-- gpt_completions and gpt_generate_array
SELECT count(*) FROM gpt_completions('The', 2, 3);
SELECT count(*) FROM gpt_completions('The');
SELECT cardinality(gpt_generate_array('The', 2, 3, 'demo'));
