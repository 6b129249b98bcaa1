-- gpt_task, gpt_summarize of long texts, gpt_summarize_agg.
SET client_min_messages = error;
CREATE EXTENSION IF NOT EXISTS gpt2;
SET client_min_messages = warning;
SET gpt2.model = 'demo';
CREATE TEMP TABLE notes AS
    SELECT id, format('My %s number %s %s.',
                      (ARRAY['printer', 'kettle', 'router', 'watch', 'lamp'])[1 + id % 5], id,
                      (ARRAY['leaks water', 'goes offline', 'does not charge', 'arrived broken'])
                      [1 + id % 4]) AS body
    FROM generate_series(1, 400) AS id;

-- tasks of the model's gpt2.json
SELECT id, gpt_task(body, 'sentiment'), gpt_task(body, 'category', max_len => 5) FROM notes
WHERE id <= 4 ORDER BY id;
SELECT gpt_task('My printer leaks water.', 'summarize') =
       gpt_summarize('My printer leaks water.') AS same;
SELECT gpt_task(E'My printer leaks.', 'sentiment', 5, 'demo',
                '{"template": "{input}\nCategory:", "stop": ["\n"]}');
-- white space at the ends goes, but for what a constraint asks for
SELECT gpt_task('My printer leaks.', 'sentiment', options => '{"stop": ["zzz"]}') ~ '^\S.*\S$' AS bare,
       gpt_task('My printer leaks.', 'sentiment', options => '{"choice": [" up ", "\n down"]}')
       IN (' up ', E'\n down') AS as_asked;
SELECT gpt_task('', 'sentiment') = '' AS empty, gpt_task(E' \n', 'sentiment') = '' AS blank,
       gpt_task(NULL, 'sentiment') IS NULL AS no_text, gpt_task('x', NULL) IS NULL AS no_task;
SELECT gpt_task('x', 'sing');
SELECT gpt_task('x', '');
SELECT gpt_task('x', repeat('t', 300));
SELECT gpt_task('x', 'sentiment', 0);
SELECT gpt_task('x', 'sentiment', options => '{"echo": true}');
SELECT gpt_task('x', 'sentiment', options => '{"template": "no place"}');
SELECT gpt_task(repeat('My printer leaks. ', 1000), 'sentiment');
EXPLAIN (COSTS OFF) SELECT gpt_task(body, 'sentiment') FROM notes;

-- a long text: in parts, the same whatever is in flight beside it
SELECT length(string_agg(body, ' ')) > 10000 AS long FROM notes;
CREATE TEMP TABLE long AS
    SELECT g, string_agg(body, ' ' ORDER BY id) AS body
    FROM notes, generate_series(0, 3) AS g WHERE id % 4 >= g GROUP BY g;
CREATE TEMP TABLE batched AS SELECT g, gpt_summarize(body, 20) AS summary FROM long ORDER BY g;
SET gpt2.batch_rows = 1;
SELECT count(*) FROM batched JOIN long USING (g)
WHERE summary = gpt_summarize(body, 20, options => '{"cache": false}');
RESET gpt2.batch_rows;
SELECT count(*) FROM batched WHERE length(summary) > 0;
-- not in parts: cut, or refused
SELECT gpt_summarize(body, 8, options => '{"truncate": "right"}') <> '' AS cut FROM long WHERE g = 0;
\set VERBOSITY terse
SELECT gpt_summarize(body, 8, options => '{"truncate": "error"}') FROM long WHERE g = 0;
SELECT gpt_summarize(body, options => '{"max_length": 600}') FROM long WHERE g = 0;
SELECT gpt_summarize(body, options => jsonb_build_object('template', repeat('x', 2000) || '{input}'))
FROM long WHERE g = 0;
\set VERBOSITY default

-- aggregates
SELECT gpt_summarize_agg(body ORDER BY id) =
       gpt_summarize(string_agg(body, E'\n' ORDER BY id)) AS short FROM notes WHERE id <= 3;
SELECT gpt_summarize_agg(body, 'demo' ORDER BY id) =
       gpt_summarize(string_agg(body, E'\n' ORDER BY id)) AS long FROM notes;
SET gpt2.max_len = 10;
SELECT id % 2 AS odd, gpt_summarize_agg(body || repeat(' again and again', 24) ORDER BY id) =
       gpt_summarize(string_agg(body || repeat(' again and again', 24), E'\n' ORDER BY id)) AS longer
FROM notes WHERE id < 340 GROUP BY id % 2 ORDER BY 1;
RESET gpt2.max_len;
SELECT gpt_summarize_agg(x) FROM (VALUES (NULL), (''), (' '), ('My printer leaks water.')) AS v(x);
SELECT gpt_summarize_agg(x) IS NULL AS nothing FROM (VALUES (NULL), (''), (' ')) AS v(x);
SELECT gpt_summarize_agg(body) IS NULL AS no_rows FROM notes WHERE false;
SELECT gpt_summarize_agg(body, m) FROM (VALUES ('a', 'demo'), ('b', 'other')) AS v(body, m);
SELECT gpt_summarize_agg(body, m) FROM (VALUES ('a', NULL), ('b', 'demo')) AS v(body, m);
SELECT gpt_summarize_agg(body, NULL) FROM (VALUES ('My printer leaks water.')) AS v(body);
SELECT gpt_summarize_agg(body) OVER (ORDER BY id) FROM notes;
\set VERBOSITY terse
SELECT gpt_summarize_agg(body, 'nosuch') FROM notes;
\set VERBOSITY default
SELECT aggfnoid::regprocedure, aggcombinefn, proparallel, provolatile
FROM pg_aggregate JOIN pg_proc ON pg_proc.oid = aggfnoid
WHERE proname = 'gpt_summarize_agg' ORDER BY 1;
-- a group that fails for itself alone: one of its texts is over the limit of 32 MB
SET gpt2.on_error = 'null';
\set VERBOSITY terse
SELECT id % 2 AS odd, gpt_summarize_agg(CASE id WHEN 3 THEN repeat(body, 2000000) ELSE body END)
       IS NULL AS failed
FROM notes WHERE id <= 4 GROUP BY 1 ORDER BY 1;
RESET gpt2.on_error;
SELECT gpt_summarize_agg(repeat('leaks ', 7000000));
