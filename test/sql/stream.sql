-- gpt_stream: the same tokens as gpt_generate's, one a row, wherever it stands.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS gpt2;
SET gpt2.model = 'demo';
\set prompt 'I bought a new printer in May. Since last week it'

-- put together, the pieces are the text
SELECT string_agg(piece, '' ORDER BY pos) = gpt_generate(:'prompt', 20) AS greedy,
       min(pos) = 0 AND max(pos) = count(DISTINCT pos) - 1 AS pos
FROM gpt_stream(:'prompt', 20);
SELECT string_agg(piece, '' ORDER BY pos) =
       gpt_generate(:'prompt', 20, temperature => 1.5, top_k => 20, top_p => 0.9, seed => 3)
       AS sampled
FROM gpt_stream(:'prompt', 20, temperature => 1.5, top_k => 20, top_p => 0.9, seed => 3);
SELECT string_agg(piece, '' ORDER BY pos) = gpt_generate(:'prompt', 9, 'demo') AS by_position
FROM gpt_stream(:'prompt', 9, 'demo');
SET gpt2.max_len = 7;
SELECT count(*) FROM gpt_stream(:'prompt');
RESET gpt2.max_len;

-- ids and log-probabilities are those of gpt_completions
SELECT array_agg(s.token_id ORDER BY s.pos) = c.token_ids AS ids,
       abs(sum(s.logprob) - c.logprob) < 1e-9 AS logprob
FROM gpt_stream(:'prompt', 15, temperature => 1, seed => 8) AS s,
     gpt_completions(:'prompt', 15, temperature => 1, seed => 8) AS c
GROUP BY c.token_ids, c.logprob;

-- a stop string, within a token or over several, is no part of it
SELECT substr(gpt_generate(:'prompt', 20), 4, 5) AS stop \gset
SELECT string_agg(s.piece, '' ORDER BY s.pos) = min(c.completion) AS text,
       array_agg(s.token_id ORDER BY s.pos) = min(c.token_ids) AS ids,
       min(c.finish_reason) AS finish_reason
FROM gpt_stream(:'prompt', 20, stop => ARRAY[:'stop']) AS s,
     gpt_completions(:'prompt', 20, stop => ARRAY[:'stop']) AS c;

-- NULL in, no rows out; an empty prompt is a prompt
SELECT count(*) FROM gpt_stream(NULL);
SELECT count(*) FROM (SELECT gpt_stream(NULL)) AS q;
SELECT count(*) > 0 AS empty_prompt FROM gpt_stream('', 3);

-- in the select list, beside a column, over rows with NULLs among them
SELECT i, count(*) <= i AS max_len, string_agg((s).piece, '' ORDER BY (s).pos) =
       gpt_generate(:'prompt', i, temperature => 1, seed => i) AS text
FROM (SELECT i, gpt_stream(CASE WHEN i <> 3 THEN :'prompt' END, i, temperature => 1, seed => i)
             AS s
      FROM generate_series(1, 4) AS i) AS q
GROUP BY i ORDER BY i;
-- two at once
SELECT count((a).pos) AS a, count((b).pos) AS b
FROM (SELECT gpt_stream(:'prompt', 3) AS a, gpt_stream(:'prompt', 5) AS b) AS q;
-- for each row of a table
SELECT i, count(*) FROM generate_series(1, 3) AS i, gpt_stream(:'prompt', i) GROUP BY i ORDER BY i;

-- one that is not read to its end, and begins again for the next row
SELECT i, (SELECT (s).pos FROM (SELECT gpt_stream(:'prompt', 30, temperature => 1, seed => i) AS s)
           AS q OFFSET i LIMIT 1)
FROM generate_series(1, 3) AS i;

-- without a seed it draws from random() as the others do
SELECT setseed(0.5);
SELECT string_agg(piece, '' ORDER BY pos) AS streamed
FROM gpt_stream(:'prompt', 10, temperature => 1) \gset
SELECT setseed(0.5);
SELECT gpt_generate(:'prompt', 10, temperature => 1) = :'streamed' AS same;

-- cursors: each goes on where it was, and other calls go between
BEGIN;
DECLARE a CURSOR FOR
    SELECT (s).pos FROM (SELECT gpt_stream(:'prompt', 6) AS s) AS q;
DECLARE b CURSOR FOR SELECT (s).pos FROM (SELECT gpt_stream(:'prompt', 500) AS s) AS q;
FETCH 1 FROM a;
FETCH 2 FROM b;
SELECT length(gpt_generate(:'prompt', 2)) > 0 AS between;
SAVEPOINT s;
FETCH 2 FROM a;
SELECT length(gpt_generate(:'prompt', 2)) / 0;
ROLLBACK TO s;
FETCH ALL FROM a;
FETCH 1 FROM a;
CLOSE b;
COMMIT;
-- one that lives longer than its transaction is read to its end first
BEGIN;
DECLARE held CURSOR WITH HOLD FOR
    SELECT (s).pos FROM (SELECT gpt_stream(:'prompt', 4) AS s) AS q;
FETCH 1 FROM held;
COMMIT;
FETCH ALL FROM held;
CLOSE held;

-- loops
DO $$
DECLARE
    piece text; text text := ''; n int := 0;
BEGIN
    FOR piece IN SELECT (s).piece FROM (SELECT gpt_stream('The printer', 200) AS s) AS q LOOP
        text := text || piece;
        n := n + 1;
        EXIT WHEN n = 5;
    END LOOP;
    RAISE INFO '%', text = gpt_generate('The printer', 5);
    BEGIN
        FOR piece IN SELECT (s).piece FROM (SELECT gpt_stream('The printer', 200) AS s) AS q LOOP
            PERFORM 1 / 0;
        END LOOP;
    EXCEPTION WHEN division_by_zero THEN
        RAISE INFO 'an error in the loop';
    END;
END $$;

-- what it does not take
\set VERBOSITY sqlstate
SELECT gpt_stream('The', 3, options => '{"echo": true}');
SELECT gpt_stream('The', 3, options => '{"num_return_sequences": 2}');
SELECT gpt_stream('The', 0);
SELECT gpt_stream('The', 3, model => 'no such model');
SELECT * FROM gpt_stream(repeat('printer ', 5000), 3);
\set VERBOSITY default
