-- gpt_generate and its kin on the demonstration model.  Its texts change with its training, so
-- only properties are tested here; exact texts are tested against vectors elsewhere.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS gpt2;
SET gpt2.model = 'demo';
\set prompt 'I bought a new printer in May. Since last week it'

-- greedy: the same text each time, and a shorter one is its beginning
SELECT g = gpt_generate(:'prompt', 12) AS again,
       starts_with(g, gpt_generate(:'prompt', 4)) AS prefix,
       length(g) > 0 AS some_text
FROM gpt_generate(:'prompt', 12) AS g;

-- NULL in, NULL out; an empty prompt is a prompt
SELECT gpt_generate(NULL) IS NULL AS text_null,
       gpt_generate_array(NULL, 5, 2) IS NULL AS array_null,
       gpt_summarize(NULL) IS NULL AS summary_null;
SELECT count(*) FROM gpt_generate(NULL, 5, n => 2);
SELECT count(*) FROM gpt_completions(NULL, 5, 2);
SELECT gpt_generate('', 3) IS NOT NULL AS empty_prompt;

-- n sequences, as rows, as an array, with all details
SELECT count(*) FROM gpt_generate(:'prompt', 6, n => 4, seed => 1);
SELECT array_agg(g) = gpt_generate_array(:'prompt', 6, n => 4, seed => 1) AS same_as_array,
       array_agg(g) = (SELECT array_agg(completion ORDER BY seq)
                       FROM gpt_completions(:'prompt', 6, n => 4, seed => 1)) AS same_as_rows
FROM gpt_generate(:'prompt', 6, n => 4, seed => 1) AS g;
SELECT cardinality(gpt_generate_array(:'prompt', NULL, n => 1)) AS one;

-- the first of n is what one sequence with the same settings is
SELECT gpt_generate(:'prompt', 6, temperature => 1, top_k => 50, seed => 7) =
       (gpt_generate_array(:'prompt', 6, n => 3, temperature => 1, top_k => 50, seed => 7))[1]
       AS first_of_three;
-- the automatic setting for n > 1 is temperature 1.0 and top_k 50
SELECT gpt_generate_array(:'prompt', 6, n => 3, temperature => 1, top_k => 50, seed => 7) =
       gpt_generate_array(:'prompt', 6, n => 3, seed => 7) AS automatic;

-- gpt_completions: columns
SELECT seq, seed, error,
       logprob <= 0 AS logprob, elapsed >= interval '0' AS elapsed,
       finish_reason IN ('length', 'stop', 'eos') AS finish_reason,
       prompt_tokens = gpt_count_tokens(:'prompt') AS prompt_tokens,
       cached_tokens >= 0 AS cached_tokens,
       completion_tokens = cardinality(token_ids) AS completion_tokens,
       completion_tokens BETWEEN 1 AND 6 AS within_max_len,
       finish_reason <> 'length' OR completion_tokens = 6 AS length_is_max_len,
       starts_with(gpt_detokenize(token_ids), completion) AS text_of_ids
FROM gpt_completions(:'prompt', 6, n => 3, seed => -42);

-- greedy: no seed is used, so none is shown; a given one is
SELECT seq, seed FROM gpt_completions(:'prompt', 2);
SELECT seq, seed FROM gpt_completions(:'prompt', 2, seed => 9223372036854775807);
SELECT seq, seed FROM gpt_completions(:'prompt', 2, seed => -9223372036854775808);

-- stop strings: the text ends before the match
SELECT substr(gpt_generate(:'prompt', 20), 4, 3) AS stop, gpt_generate(:'prompt', 20) AS text \gset
SELECT completion = left(:'text', position(:'stop' IN :'text') - 1) AS before_stop, finish_reason
FROM gpt_completions(:'prompt', 20, stop => ARRAY['never in the text', :'stop']);
SELECT gpt_generate(:'prompt', 20, stop => '{}') = :'text' AS no_stops,
       gpt_generate(:'prompt', 20, stop => NULL) = :'text' AS null_stops;

-- echo and Hugging Face's max_length
SELECT gpt_generate(:'prompt', 5, options => '{"echo": true}') =
       :'prompt' || gpt_generate(:'prompt', 5) AS echo,
       gpt_generate(:'prompt', 5, options => '{"echo": false}') =
       gpt_generate(:'prompt', 5) AS no_echo;
SELECT gpt_generate(:'prompt', options => jsonb_build_object('max_length',
                                                             gpt_count_tokens(:'prompt') + 5)) =
       gpt_generate(:'prompt', 5) AS max_length;
SELECT count(*), bool_and(starts_with(g, :'prompt')) AS echo
FROM gpt_generate(:'prompt', NULL, 5, model => 'demo', seed => 1,
                  options => '{"max_length": 60, "echo": true}') AS g;

-- a set-returning call in the select list, beside a column, and over rows of a table
SELECT i, gpt_generate(:'prompt', 2, n => 2, seed => i) IS NOT NULL AS g
FROM generate_series(1, 2) AS i;
SELECT i, count(*) FROM generate_series(1, 3) AS i, gpt_generate(:'prompt', 2, n => i + 1)
GROUP BY i ORDER BY i;

-- places of a scalar call
CREATE TEMP TABLE letters (id int, body text, summary text);
INSERT INTO letters VALUES (1, :'prompt'), (2, NULL), (3, ''), (4, E' \n\t\u00a0\u3000 ');
UPDATE letters SET summary = gpt_summarize(body, 8);
SELECT id, summary IS NULL AS null, summary = '' AS empty FROM letters ORDER BY id;
SELECT id FROM letters WHERE body IS NOT NULL AND length(gpt_generate(body, 2)) >= 0 ORDER BY id;
SELECT id, CASE WHEN id = 1 THEN length(gpt_generate(body, 2)) > 0 END AS g
FROM letters ORDER BY id;
SELECT gpt_summarize(body, 8) = summary AS again FROM letters WHERE id = 1;

-- the summarize template: the model's own, or the call's
SELECT gpt_summarize(:'prompt', 8, options => '{"template": "{input}\nTL;DR:"}') =
       gpt_summarize(:'prompt', 8) AS own_template,
       gpt_summarize(:'prompt', 8, options => '{"template": "{input}", "stop": []}') =
       btrim(gpt_generate(:'prompt', 8), E' \t\n') AS bare_template;
SELECT gpt_summarize(:'prompt', 20) ~ '^\S.*\S$' AS trimmed;
