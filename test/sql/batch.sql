-- Many rows in flight: which calls are batched, as EXPLAIN tells it.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS gpt2;
CREATE TABLE rows_ahead (id int PRIMARY KEY, body text, alt text);
INSERT INTO rows_ahead SELECT i, 'Row ' || i, CASE WHEN i % 2 = 0 THEN 'alt' END
FROM generate_series(1, 20) AS i;
ANALYZE rows_ahead;

-- in the first statement of a session
\c
EXPLAIN (COSTS OFF, VERBOSE) SELECT id, gpt_summarize(body, 3) FROM rows_ahead;

SET client_min_messages = warning;
SET gpt2.model = 'demo';
-- how many nodes a plan has
CREATE FUNCTION pg_temp.nodes(query text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    line text;
    found bigint := 0;
BEGIN
    FOR line IN EXECUTE 'EXPLAIN (COSTS OFF) ' || query LOOP
        found := found + (line LIKE '%GPT Batch%')::int;
    END LOOP;
    RETURN found;
END $$;
SELECT pg_temp.nodes(query) AS nodes, query FROM (VALUES
    ('SELECT gpt_generate(body, 2), gpt_summarize(alt, 2) FROM rows_ahead'),
    ('SELECT gpt_generate_array(body, 2, n => 2) FROM rows_ahead'),
    ('SELECT gpt_generate(gpt_summarize(body, 2), 2) FROM rows_ahead'),
    ('SELECT gpt_classify(body, ARRAY[''a'', ''b'']) FROM rows_ahead'),
    ('SELECT id FROM rows_ahead ORDER BY gpt_label_prob(body, ARRAY[''a'', ''b''])'),
    ('SELECT gpt_loss(body), gpt_perplexity(body) FROM rows_ahead'),
    ('SELECT gpt_embed(body) FROM rows_ahead WHERE gpt_filter(body, ''It is a row'')'),
    ('SELECT id FROM rows_ahead WHERE gpt_generate(body, 2) <> ''x'''),
    ('SELECT gpt_generate(body, 2) FROM rows_ahead WHERE gpt_generate(body, 3) <> ''x'''),
    ('SELECT CASE WHEN id > 3 THEN gpt_generate(body, 2) END FROM rows_ahead'),
    ('SELECT coalesce(alt, gpt_generate(body, 2)) FROM rows_ahead'),
    ('SELECT max(gpt_generate(body, 2)) FROM rows_ahead'),
    ('SELECT gpt_generate(max(body), 2) FROM rows_ahead GROUP BY alt'),
    ('SELECT 1 FROM rows_ahead GROUP BY gpt_generate(body, 2)'),
    ('SELECT gpt_generate(body || row_number() OVER (), 2) FROM rows_ahead'),
    ('SELECT id FROM rows_ahead ORDER BY gpt_generate(body, 2)'),
    ('UPDATE rows_ahead SET alt = gpt_generate(body, 2)'),
    ('INSERT INTO rows_ahead SELECT id + 100, gpt_generate(body, 2) FROM rows_ahead'),
    ('WITH c AS (SELECT gpt_generate(body, 2) AS g FROM rows_ahead) SELECT * FROM c'),
    ('WITH c AS (UPDATE rows_ahead SET alt = body RETURNING id, body)
      SELECT id, gpt_generate(body, 2) FROM c'),
    ('CREATE TABLE made AS SELECT gpt_generate(body, 2) FROM rows_ahead'),
    -- row by row
    ('SELECT gpt_generate(''one'', 2)'),
    ('SELECT gpt_generate(body || random()::text, 2) FROM rows_ahead'),
    ('UPDATE rows_ahead SET alt = body RETURNING gpt_generate(body, 2)'),
    ('INSERT INTO rows_ahead VALUES (100, gpt_generate(''one'', 2))'),
    ('SELECT g FROM rows_ahead, LATERAL gpt_generate(body, 2) AS g'),
    ('SELECT gpt_generate(body, 2, n => 2) FROM rows_ahead'),
    ('SELECT lag(gpt_generate(body, 2)) OVER () FROM rows_ahead'),
    ('SELECT max(body) FILTER (WHERE gpt_generate(body, 2) <> '''') FROM rows_ahead')
) AS q (query);

-- a plan of many levels is rewritten in a moment too
SELECT pg_temp.nodes('SELECT id, gpt_generate(body, 2) FROM ' || repeat('(SELECT id, body FROM ', 40) ||
                     'rows_ahead' || repeat(' AS q ORDER BY id LIMIT 20)', 40) || ' AS q') AS nodes;

-- so is a CASE of many calls, of which some then run row by row; conditions alone are no burden
CREATE FUNCTION pg_temp.batched(query text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    line text;
BEGIN
    FOR line IN EXECUTE 'EXPLAIN (COSTS OFF) ' || query LOOP
        IF line LIKE '%Batched Calls:%' THEN
            RETURN array_length(string_to_array(line, ','), 1);
        END IF;
    END LOOP;
    RETURN 0;
END $$;
SELECT n, what, pg_temp.batched('SELECT CASE ' || string_agg(format('WHEN id = %s THEN ' || what, i), ' ') ||
                                ' ELSE gpt_generate(body, 2) END FROM rows_ahead') AS batched
FROM (VALUES (100, 'gpt_generate(body, 1)'), (1000, 'gpt_generate(body, 1)'), (1000, 'alt')) AS v (n, what),
     generate_series(1, n) AS i
GROUP BY n, what ORDER BY n, what;

-- what calls cost is no reason to compile, those that run row by row included
CREATE FUNCTION pg_temp.compiles(query text) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    line text;
BEGIN
    FOR line IN EXECUTE 'EXPLAIN ' || query LOOP
        IF line LIKE 'JIT:%' THEN
            RETURN true;
        END IF;
    END LOOP;
    RETURN false;
END $$;
SELECT pg_temp.compiles('SELECT CASE ' || string_agg(format('WHEN id = %s THEN gpt_generate(body, 50)', i), ' ') ||
                        ' END FROM rows_ahead') AS compiles
FROM generate_series(1, 1000) AS i;

-- functions of other names and places are known by what they call, and others are not
CREATE SCHEMA elsewhere;
CREATE FUNCTION elsewhere.gpt_generate(text, int) RETURNS text LANGUAGE sql VOLATILE
AS 'SELECT ''own''::text';
SELECT pg_temp.nodes('SELECT elsewhere.gpt_generate(body, 2) FROM rows_ahead') AS nodes;
ALTER FUNCTION gpt_summarize(text, int, text, jsonb) SET search_path = pg_catalog;
SELECT pg_temp.nodes('SELECT gpt_summarize(body, 2) FROM rows_ahead') AS nodes;
ALTER FUNCTION gpt_summarize(text, int, text, jsonb) RESET search_path;
SELECT pg_temp.nodes('SELECT gpt_summarize(body, 2) FROM rows_ahead') AS nodes;
SET gpt2.batch_rows = 1;
SELECT pg_temp.nodes('SELECT gpt_summarize(body, 2) FROM rows_ahead') AS nodes;
SET gpt2.batch_rows = 0;
SET gpt2.batch_rows = 1025;
RESET gpt2.batch_rows;

-- the figures of an execution
CREATE FUNCTION pg_temp.figures(query text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    plan json;
BEGIN
    EXECUTE 'EXPLAIN (ANALYZE, FORMAT JSON) ' || query INTO plan;
    RETURN QUERY SELECT key || ': ' || value FROM json_each_text(plan -> 0 -> 'Plan')
        WHERE key IN ('Batched Calls', 'Rows in Flight', 'Requests', 'Duplicates Saved', 'Batches',
                      'Mean Rows in Flight', 'Generated Tokens', 'Requests Unused');
END $$;
SELECT pg_temp.figures('SELECT gpt_generate(body, 2) FROM rows_ahead');
SELECT pg_temp.figures('SELECT gpt_generate(''Row '' || id % 4, 2) FROM rows_ahead');
SELECT pg_temp.figures('SELECT gpt_generate(body, 2), gpt_summarize(alt, 2) FROM rows_ahead');

-- what nobody reads is not made, and what a LIMIT cuts off is not either
CREATE VIEW summaries AS SELECT id, alt, gpt_generate(body, 2) AS g FROM rows_ahead;
EXPLAIN (COSTS OFF) SELECT count(*) FROM summaries;
EXPLAIN (COSTS OFF) SELECT alt, count(*), max(g) FROM summaries GROUP BY alt;
EXPLAIN (COSTS OFF) SELECT id FROM (SELECT *, gpt_summarize(body) FROM rows_ahead OFFSET 0) AS q;
SET enable_indexscan = off;
EXPLAIN (COSTS OFF) SELECT * FROM summaries ORDER BY id LIMIT 3;
EXPLAIN (COSTS OFF) SELECT * FROM summaries ORDER BY g LIMIT 3;
RESET enable_indexscan;
DROP VIEW summaries;

-- what it will take (without the time, which is the engine's)
CREATE FUNCTION pg_temp.estimated(query text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    line text;
BEGIN
    FOR line IN EXECUTE 'EXPLAIN ' || query LOOP
        RETURN QUERY SELECT substring(line FROM 'Estimated: \d+ calls, \w+ tokens')
            WHERE line LIKE '%Estimated%';
    END LOOP;
END $$;
SELECT pg_temp.estimated('SELECT gpt_generate(i::text, 100) FROM generate_series(1, 200000) AS i');
SELECT pg_temp.estimated('SELECT gpt_generate_array(i::text, 10, n => 4), gpt_summarize(i::text)
                          FROM generate_series(1, 10) AS i');
-- as numbers where programs read them
CREATE FUNCTION pg_temp.numbers(query text) RETURNS TABLE (name text, number numeric) LANGUAGE plpgsql AS $$
DECLARE
    plan json;
BEGIN
    EXECUTE 'EXPLAIN (FORMAT JSON) ' || query INTO plan;
    RETURN QUERY SELECT key, value::numeric FROM json_each_text(plan -> 0 -> 'Plan')
        WHERE key IN ('Estimated', 'Estimated Calls', 'Estimated Tokens');
END $$;
SELECT * FROM pg_temp.numbers('SELECT gpt_generate(i::text, 100) FROM generate_series(1, 200000) AS i');
-- the more tokens the dearer
CREATE FUNCTION pg_temp.cost(query text) RETURNS numeric LANGUAGE plpgsql AS $$
DECLARE
    plan json;
BEGIN
    EXECUTE 'EXPLAIN (FORMAT JSON) ' || query INTO plan;
    RETURN plan -> 0 -> 'Plan' -> 'Total Cost';
END $$;
SELECT pg_temp.cost('SELECT gpt_generate(body, 100) FROM rows_ahead') >
       pg_temp.cost('SELECT gpt_generate(body, 50) FROM rows_ahead') AS dearer;

-- partitions have one node above all of them
CREATE TABLE parted (id int, body text) PARTITION BY RANGE (id);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (10);
CREATE TABLE parted_2 PARTITION OF parted FOR VALUES FROM (10) TO (100);
EXPLAIN (COSTS OFF) SELECT id, gpt_generate(body, 2) FROM parted;
EXPLAIN (COSTS OFF) SELECT id, gpt_generate(body, 2, temperature => 1) FROM parted;

DROP TABLE rows_ahead, parted;
DROP SCHEMA elsewhere CASCADE;
