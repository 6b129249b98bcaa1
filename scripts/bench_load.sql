-- bench_load.sql: prompts of 64 to 256 tokens: of tickets for the demo model, of random letters for
-- the model with random weights, whose tokens are bytes.  Each begins with a number of its own, so
-- that no two share a block of the prefix cache.
\set ON_ERROR_STOP on
SET client_min_messages = warning;
CREATE EXTENSION gpt2;
SET gpt2.model = 'demo';
\i tickets.sql
CREATE TABLE prompts_demo (id int PRIMARY KEY, text text NOT NULL, tokens int NOT NULL);
WITH p AS (
    SELECT i, (gpt_tokenize(i || ' ' || (SELECT string_agg(body, E'\n' ORDER BY hashint4(id + i))
                                         FROM tickets WHERE (id + i) % 10 = 0)))
              [1 : 64 + abs(hashint4(i)) % 193] AS ids
    FROM generate_series(1, 2000) AS i)
INSERT INTO prompts_demo SELECT i, gpt_detokenize(ids), cardinality(ids) FROM p;
CREATE TABLE prompts_m124 (id int PRIMARY KEY, text text NOT NULL, tokens int NOT NULL);
INSERT INTO prompts_m124
SELECT i, text, length(text)
FROM (SELECT i, left(i || ' ' || (SELECT string_agg(md5(i::text || j), ' ')
                                  FROM generate_series(1, 8) AS j),
                     64 + abs(hashint4(i)) % 193) AS text
      FROM generate_series(1, 2000) AS i) AS p;
ANALYZE;
-- What pgbench's clients and stream_clients read.
CREATE VIEW prompts AS SELECT id, text FROM prompts_demo;
