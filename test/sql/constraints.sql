-- The options choice, regex and json_schema: what comes out, and every error.
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
    -- which keys there are, options.sql says
    RETURN concat_ws(' | ', state, message, nullif(detail, ''),
                     regexp_replace(nullif(hint, ''), '^Valid keys are .*', 'Valid keys are ...'));
END $$;
CREATE FUNCTION pg_temp.option(options text, max_len int DEFAULT 40) RETURNS text LANGUAGE sql AS
$$ SELECT pg_temp.try(format('SELECT gpt_generate(''The'', %s, options => %L)', max_len, options)) $$;
CREATE FUNCTION pg_temp.make(option text, value jsonb, max_len int DEFAULT 60,
                             temperature float8 DEFAULT NULL, seed bigint DEFAULT NULL)
    RETURNS text LANGUAGE sql AS
$$ SELECT gpt_generate('A ticket: ', max_len, temperature => temperature, seed => seed,
                       options => jsonb_build_object(option, value)) $$;
\pset format unaligned
\pset tuples_only on

-- choice
SELECT pg_temp.make('choice', '["battery", "billing"]') IN ('battery', 'billing');
SELECT pg_temp.make('choice', '["only this, with \"quotes\" and ä"]');
SELECT pg_temp.make('choice', '["battery"]', 3);
SELECT count(DISTINCT c), bool_and(c IN ('a', 'ab', 'abc'))
FROM generate_series(1, 40) i,
     LATERAL (SELECT pg_temp.make('choice', '["a", "ab", "abc"]', 5, 5.0, i)) AS t(c);

-- regex
SELECT pg_temp.make('regex', '"[0-9]{4}-(0[1-9]|1[0-2])-[0-3][0-9]"') ~ '^\d{4}-\d\d-\d\d$';
SELECT pg_temp.make('regex', '"(2024|2025)-0[1-9]-0[1-9]"')::date > '2024-01-01';
SELECT pg_temp.make('regex', '"-?[1-9][0-9]{0,5}(\\.[0-9]{2})?"')::numeric <> 0;
SELECT bool_and(r ~ '^[A-Z]{2}[0-9]+$')
FROM generate_series(1, 20) i,
     LATERAL (SELECT pg_temp.make('regex', '"^[A-Z]{2}[0-9]+$"', 3 + i, 3.0, i)) AS t(r);
SELECT pg_temp.make('regex', '"[äöü]{3}"', 6, 2.0, 1) ~ '^[äöü]{3}$';

-- json_schema
SELECT jsonb_typeof(pg_temp.make('json_schema', '{"type": "object"}')::jsonb);
SELECT pg_temp.make('json_schema', '{"const": {"b": [1, "x"], "a": null}}');
SELECT r.a BETWEEN 1 AND 5, r.b IN ('x', 'y'), length(r.c) BETWEEN 2 AND 6, r.d IS NULL
FROM (SELECT pg_temp.make('json_schema', '{"type": "object", "properties": {
          "a": {"type": "integer", "minimum": 1, "maximum": 5}, "b": {"enum": ["x", "y"]},
          "c": {"type": "string", "minLength": 2, "maxLength": 6}, "d": {"type": "null"}},
          "required": ["a", "b", "c", "d"]}')::jsonb) AS s(j),
     jsonb_to_record(s.j) AS r(a int, b text, c text, d text);
-- the order of the keys is that of jsonb; in a string it is as written
SELECT pg_temp.make('json_schema', '{"type": "object", "properties": {"long_name": {"const": 1},
                    "b": {"const": 2}}, "required": ["b", "long_name"]}');
SELECT pg_temp.make('json_schema', to_jsonb('{"type": "object", "properties": {"long_name":
                    {"const": 1}, "b": {"const": 2}}, "required": ["b", "long_name"]}'::text));
-- whatever the budget and the seed, it is valid
SELECT count(j->>'kind')
FROM generate_series(1, 100) i,
     LATERAL (SELECT pg_temp.make('json_schema', '{"type": "object", "properties": {
         "kind": {"enum": ["bug", "wish"]}, "tags": {"type": "array", "items":
         {"type": "string"}}, "n": {"type": "number"}, "at": {"type": ["integer", "null"]}},
         "required": ["kind"]}', 11 + i % 40, 2.0, i)::jsonb) AS t(j);
SELECT pg_temp.make('json_schema', '{"$ref": "#/$defs/node", "$defs": {"node": {"type": "object",
       "properties": {"v": {"type": "boolean"}, "next": {"$ref": "#/$defs/node"}},
       "required": ["v"]}}}', 200, 1.0, 1)::jsonb ? 'v';

-- all functions that generate have them; finish_reason says whether the text is complete
SELECT completion, finish_reason, completion_tokens
FROM gpt_completions('The', 20, options => '{"choice": ["xx"]}');
SELECT finish_reason FROM gpt_completions('The', 4, temperature => 1, seed => 1,
                                          options => '{"regex": "[a-z]{4,}"}');
SELECT * FROM gpt_generate('The', 20, n => 2, options => '{"choice": ["one"]}');
SELECT gpt_generate_array('The', 20, n => 2, options => '{"regex": "z+", "echo": true}')
       <@ ARRAY(SELECT 'The' || repeat('z', i) FROM generate_series(1, 80) i);
SELECT string_agg((s).piece, '') FROM
    (SELECT gpt_stream('The', 20, options => '{"choice": ["streamed"]}') AS s) q;
SELECT gpt_summarize('A long text.', 20, options => '{"choice": ["short\ntext"]}');
SELECT '<' || gpt_task('A text.', 'summarize', 20, options => '{"choice": [" as it is\t"]}') || '>';
-- many rows at once
SELECT count(*), bool_and(r ~ '^[0-9]{3}$') FROM (
    SELECT gpt_generate('Row ' || i, 5, options => '{"regex": "[0-9]{3}"}') AS r
    FROM generate_series(1, 50) i) q;
-- null counts as not given
SELECT pg_temp.option('{"choice": null, "regex": null, "json_schema": null}');

-- they exclude each other, and stop strings
SELECT pg_temp.option('{"choice": ["a"], "regex": "b"}');
SELECT pg_temp.option('{"json_schema": {}, "regex": "b"}');
SELECT pg_temp.option('{"choice": ["a"], "stop": ["b"]}');
SELECT pg_temp.try($$SELECT gpt_generate('The', 5, stop => '{b}', options => '{"regex": "a+"}')$$);
SELECT pg_temp.try($$SELECT gpt_classify('The', '{a,b}', options => '{"regex": "a+"}')$$);

-- wrong types
SELECT pg_temp.option('{"choice": "a"}');
SELECT pg_temp.option('{"choice": []}');
SELECT pg_temp.option('{"choice": ["a", 1]}');
SELECT pg_temp.option('{"choice": ["a", ""]}');
SELECT pg_temp.option('{"choice": {"a": "b"}}');
SELECT pg_temp.option('{"regex": 1}');
SELECT pg_temp.option('{"regex": ["a"]}');
SELECT pg_temp.option('{"json_schema": 1}');
SELECT pg_temp.option('{"json_schema": true}');
SELECT pg_temp.option('{"json_schema": []}');

-- regular expressions that are refused
SELECT pg_temp.option('{"regex": "ä(b"}');
SELECT pg_temp.option('{"regex": "a(?=b)"}');
SELECT pg_temp.option('{"regex": "(a)\\1"}');
SELECT pg_temp.option('{"regex": "\\bword"}');
SELECT pg_temp.option('{"regex": "a{2000}"}');
SELECT pg_temp.option('{"regex": "((a{1000}){1000}){1000}"}');
SELECT pg_temp.option('{"regex": "(a|b)*a(a|b){30}"}');

-- schemas that are refused
SELECT pg_temp.option('{"json_schema": "{"}');
SELECT pg_temp.option('{"json_schema": {"properties": {"a": {"oneOf": []}}}}');
SELECT pg_temp.option('{"json_schema": {"type": "string", "format": "date"}}');
SELECT pg_temp.option('{"json_schema": {"items": {"type": "text"}}}');
SELECT pg_temp.option('{"json_schema": {"properties": {"a": {"$ref": "#/$defs/b"}}}}');
SELECT pg_temp.option('{"json_schema": {"required": ["a"]}}');
SELECT pg_temp.option('{"json_schema": {"type": "integer", "minimum": 2, "maximum": 1}}');
SELECT pg_temp.option('{"json_schema": {"properties": {"a": {"pattern": "["}}}}');
SELECT pg_temp.option('{"json_schema": {"type": "string", "maxLength": 1000000}}');

-- too long, and budgets that are too small
SELECT pg_temp.try(format('SELECT gpt_generate(''The'', 5, options => %L)',
                          jsonb_build_object('regex', repeat('a', 65537))));
SELECT pg_temp.option('{"regex": "[0-9]{4}-[0-9]{2}"}', 2);
SELECT pg_temp.option('{"choice": ["zqxjk", "qqzzqq"]}', 1);
SELECT pg_temp.option('{"json_schema": {"type": "object", "properties": {"id": {"type": "integer"}},
                       "required": ["id"]}}', 2);
SELECT pg_temp.try($$SELECT gpt_generate('The', options =>
                          '{"regex": "[0-9]{6}", "max_length": 3}')$$);
