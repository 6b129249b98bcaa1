-- gpt_batch: what it fills, what it leaves, what it refuses.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS gpt2;
SET gpt2.model = 'demo';
\set VERBOSITY default
CREATE TABLE docs (id int PRIMARY KEY, body text, summary text, problem text);
INSERT INTO docs SELECT i, 'My printer makes a loud noise, order ' || i || '. Please call me.'
FROM generate_series(1, 20) AS i;
INSERT INTO docs VALUES (21, NULL), (22, ''), (23, E' \n');

-- the answers are those of the function
CALL gpt_batch('docs', 'body', 'summary', batch_size => 7);
SELECT id FROM docs WHERE summary IS DISTINCT FROM gpt_summarize(body);
CALL gpt_batch('docs', 'body', 'summary');
-- a limit, a filter, a length
UPDATE docs SET summary = NULL;
CALL gpt_batch('docs', 'body', 'summary', max_rows => 5, max_len => 3);
SELECT array_agg(id ORDER BY id) FROM docs WHERE summary = gpt_summarize(body, 3);
CALL gpt_batch('docs', 'body', 'summary', filter => 'id > 18 AND body LIKE ''%call%'' -- and no more');
SELECT array_agg(id ORDER BY id) FROM docs WHERE summary IS NOT NULL;
CALL gpt_batch('docs', 'body', 'summary', time_limit => '0');
CALL gpt_batch('docs', 'body', 'summary', max_rows => 0);
CALL gpt_batch('docs', 'body', 'summary', time_limit => '1 hour', max_rows => 1000,
               batch_size => 1);
-- a template; options
UPDATE docs SET summary = NULL;
CALL gpt_batch('docs', 'body', 'summary', E'{input}\nCategory:', 5,
               options => '{"stop": ["\n"]}', model => 'demo', filter => 'id <= 20');
SELECT count(*), bool_and(summary = gpt_summarize(body, 5,
           options => '{"template": "{input}\nCategory:", "stop": ["\n"]}'))
FROM docs WHERE summary IS NOT NULL;
-- a task of the model by its name; one that it does not have is no error of a row
UPDATE docs SET summary = NULL;
CALL gpt_batch('docs', 'body', 'summary', 'category', max_rows => 8);
SELECT array_agg(id ORDER BY id) FROM docs WHERE summary = gpt_task(body, 'category');
CALL gpt_batch('docs', 'body', 'summary', 'no such task', error_column => 'problem');
SELECT count(summary), count(problem) FROM docs;
-- nor is what is wrong in options or a template, whoever finds it
CALL gpt_batch('docs', 'body', 'summary', error_column => 'problem', options => '{"regex": "a(b"}');
CALL gpt_batch('docs', 'body', 'summary', error_column => 'problem',
               options => jsonb_build_object('regex', repeat('(', 300) || 'a' || repeat(')', 300)));
CALL gpt_batch('docs', 'body', 'summary', error_column => 'problem',
               options => '{"json_schema": {"type": "text"}}');
CALL gpt_batch('docs', 'body', 'summary', repeat('x ', 2000) || '{input}', error_column => 'problem');
CALL gpt_batch('docs', 'body', 'summary', error_column => 'problem', max_len => 4,
               options => '{"max_tokens": 4}');
SELECT count(summary), count(problem) FROM docs;

-- errors of rows
CREATE TABLE long_docs (id int PRIMARY KEY, body text, summary text, problem text);
INSERT INTO long_docs SELECT i, CASE WHEN i % 3 = 0 THEN repeat('too long ', 30) ELSE 'Short ' || i END
FROM generate_series(1, 9) AS i;
CALL gpt_batch('long_docs', 'body', 'summary', filter => 'length(body) > 100',
               options => '{"max_length": 20}');
CALL gpt_batch('long_docs', 'body', 'summary', error_column => 'problem',
               options => '{"max_length": 20}');
SELECT id, summary IS NULL AS empty, problem FROM long_docs WHERE problem IS NOT NULL OR summary IS NULL
ORDER BY id;
CALL gpt_batch('long_docs', 'body', 'summary', error_column => 'problem');
-- the session's gpt2.on_error is for statements; here messages are kept
UPDATE long_docs SET problem = NULL WHERE id = 9;
SET gpt2.on_error = 'null';
CALL gpt_batch('long_docs', 'body', 'summary', error_column => 'problem',
               options => '{"max_length": 20}');
RESET gpt2.on_error;
SELECT problem FROM long_docs WHERE id = 9;
UPDATE long_docs SET body = 'Now short' WHERE id = 3;
CALL gpt_batch('long_docs', 'body', 'summary', error_column => 'problem', retry_errors => true,
               options => '{"max_length": 20}');
SELECT id, summary IS NULL AS empty, problem IS NULL AS well FROM long_docs WHERE id % 3 = 0
ORDER BY id;
-- the first one ends it, and what is before it stays
UPDATE long_docs SET summary = NULL, problem = NULL, body = repeat('too long ', 30)
WHERE id = 3;
UPDATE long_docs SET summary = NULL;
CALL gpt_batch('long_docs', 'body', 'summary', on_error => 'error', batch_size => 4,
               options => '{"max_length": 20}');
SELECT array_agg(id ORDER BY id) FROM long_docs WHERE summary IS NOT NULL;

-- types of output
CREATE TYPE mood AS ENUM ('angry', 'happy', 'sad');
CREATE DOMAIN short AS varchar(30) CHECK (VALUE <> 'a');
CREATE TABLE typed (id int PRIMARY KEY, body text, feels mood, call boolean, label text,
                    number int, doc jsonb, words varchar(4), d short, e text, list text[]);
INSERT INTO typed (id, body)
SELECT i, 'My printer makes a loud noise, order ' || i FROM generate_series(1, 6) AS i;
INSERT INTO typed VALUES (7, '');
CALL gpt_batch('typed', 'body', 'feels', error_column => 'e');
SELECT id FROM typed WHERE feels IS DISTINCT FROM gpt_classify(body, NULL::mood);
SELECT id, feels, e FROM typed WHERE id = 7;
UPDATE typed SET e = NULL;
CALL gpt_batch('typed', 'body', 'call', 'The customer wants a call');
SELECT id FROM typed WHERE call IS DISTINCT FROM gpt_filter(body, 'The customer wants a call');
UPDATE typed SET call = NULL;
CALL gpt_batch('typed', 'body', 'call', '{input} Noise? {label}');
SELECT id FROM typed WHERE call IS DISTINCT FROM
    gpt_filter(body, 'x', options => '{"template": "{input} Noise? {label}"}');
CALL gpt_batch('typed', 'body', 'label', options => '{"labels": ["noise", "battery"]}');
SELECT id FROM typed WHERE label IS DISTINCT FROM gpt_classify(body, '{noise,battery}');
CALL gpt_batch('typed', 'body', 'number', options => '{"labels": ["10", "20"]}');
SELECT id FROM typed WHERE number::text IS DISTINCT FROM gpt_classify(body, '{10,20}');
CALL gpt_batch('typed', 'body', 'doc', options => '{"labels": ["{\"a\": 1}", "[2]"]}');
SELECT DISTINCT jsonb_typeof(doc) IN ('object', 'array') FROM typed WHERE id < 7;
-- a vector is the embedding: of real[], double precision[], a domain, a type that has a cast
CREATE DOMAIN embedding AS real[] CHECK (cardinality(VALUE) = 128);
CREATE TYPE halves AS (a real[], b real[]);
CREATE FUNCTION halve(e real[], typmod int DEFAULT 0, explicit boolean DEFAULT false) RETURNS halves
LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN e[1] > 1e9 THEN NULL ELSE ROW(e[:64], e[65:])::halves END $$;
CREATE CAST (real[] AS halves) WITH FUNCTION halve AS ASSIGNMENT;
CREATE TABLE vectors (id int PRIMARY KEY, body text, r real[], d double precision[], e embedding,
                      h halves, problem text);
INSERT INTO vectors SELECT id, body FROM typed WHERE id IN (1, 2, 3, 7);
CALL gpt_batch('vectors', 'body', 'r', error_column => 'problem');
SELECT id, problem FROM vectors WHERE problem IS NOT NULL;
DELETE FROM vectors WHERE id = 7;
CALL gpt_batch('vectors', 'body', 'd');
CALL gpt_batch('vectors', 'body', 'e', options => '{"truncate": "left"}', batch_size => 1);
CALL gpt_batch('vectors', 'body', 'h', on_error => 'error');
SELECT id FROM vectors WHERE r IS DISTINCT FROM gpt_embed(body)
    OR d IS DISTINCT FROM gpt_embed(body)::double precision[] OR e IS DISTINCT FROM r::embedding
    OR h IS DISTINCT FROM ROW(r[:64], r[65:])::halves;
CREATE DOMAIN wrong_size AS real[] CHECK (cardinality(VALUE) = 3);
ALTER TABLE vectors ADD w wrong_size;
CALL gpt_batch('vectors', 'body', 'w');
CALL gpt_batch('vectors', 'body', 'w', max_len => 3);
CREATE OR REPLACE FUNCTION halve(e real[], typmod int DEFAULT 0, explicit boolean DEFAULT false)
RETURNS halves LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN NULL; END $$;
UPDATE vectors SET h = NULL;
CALL gpt_batch('vectors', 'body', 'h');
DROP TABLE vectors;
-- constraints make it convert
UPDATE typed SET number = NULL, doc = NULL WHERE id > 3;
CALL gpt_batch('typed', 'body', 'number', options => '{"choice": ["10", "20"]}');
SELECT count(*), bool_and(number IN (10, 20)) FROM typed WHERE number IS NOT NULL;
CALL gpt_batch('typed', 'body', 'doc', max_len => 30, options =>
    '{"json_schema": {"type": "object", "properties": {"urgent": {"type": "boolean"}},
                      "required": ["urgent"], "additionalProperties": false}}');
SELECT id, jsonb_typeof(doc -> 'urgent') FROM typed WHERE id BETWEEN 4 AND 6 ORDER BY id;
-- what does not convert is an error of the row
UPDATE typed SET number = NULL, doc = NULL WHERE id = 1;
CALL gpt_batch('typed', 'body', 'number', error_column => 'e');
CALL gpt_batch('typed', 'body', 'doc', error_column => 'e', retry_errors => true);
SELECT id, number, doc IS NULL AS no_doc, e LIKE 'invalid input syntax for type json%' AS e
FROM typed WHERE id IN (1, 7) ORDER BY id;
UPDATE typed SET e = NULL;
CALL gpt_batch('typed', 'body', 'words', error_column => 'e');
SELECT id, words, e FROM typed WHERE id IN (1, 7) ORDER BY id;
UPDATE typed SET e = NULL;
CALL gpt_batch('typed', 'body', 'd', max_len => 2, error_column => 'e');
SELECT count(d), count(e) FROM typed;
-- a constraint of the table speaks for its row alone
ALTER TABLE typed ADD one text CONSTRAINT not_three CHECK (one IS NULL OR id <> 3);
CALL gpt_batch('typed', 'body', 'one', max_len => 2, error_column => 'e');
SELECT id, one IS NULL AS empty, e FROM typed WHERE e IS NOT NULL;
-- also one that is checked at the commit
CREATE TABLE kinds (kind text PRIMARY KEY);
CREATE TABLE kind_of (id int PRIMARY KEY, body text, e text,
                      kind text REFERENCES kinds DEFERRABLE INITIALLY DEFERRED);
INSERT INTO kind_of SELECT i, 'Row ' || i FROM generate_series(1, 4) AS i;
INSERT INTO kinds SELECT gpt_classify(body, '{a,b}') FROM kind_of WHERE id = 1;
CALL gpt_batch('kind_of', 'body', 'kind', error_column => 'e', max_rows => 1,
               options => '{"labels": ["a", "b"]}');
TRUNCATE kinds CASCADE;
INSERT INTO kind_of SELECT i, 'Row ' || i FROM generate_series(1, 4) AS i;
CALL gpt_batch('kind_of', 'body', 'kind', error_column => 'e',
               options => '{"labels": ["a", "b"]}');
SELECT count(kind) AS kinds, count(*) FILTER (WHERE e LIKE '%kind_of_kind_fkey%') AS errors FROM kind_of;
DROP TABLE kind_of, kinds;
CALL gpt_batch('typed', 'body', 'list', max_len => 2, max_rows => 1);
-- so does one that is deferred, and a trigger that raises an exception
UPDATE typed SET one = NULL, e = NULL;
ALTER TABLE typed DROP CONSTRAINT not_three;
CREATE FUNCTION forbid() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.id = TG_ARGV[0]::int AND NEW.one IS NOT NULL THEN
        RAISE EXCEPTION 'not %', NEW.id USING ERRCODE = TG_ARGV[1];
    END IF;
    RETURN NEW;
END $$;
CREATE CONSTRAINT TRIGGER at_commit AFTER UPDATE ON typed DEFERRABLE INITIALLY DEFERRED
FOR EACH ROW EXECUTE FUNCTION forbid(2, '23514');
CREATE TRIGGER at_once BEFORE UPDATE ON typed FOR EACH ROW EXECUTE FUNCTION forbid(4, 'P0001');
CALL gpt_batch('typed', 'body', 'one', max_len => 2, error_column => 'e');
SELECT id, one IS NULL AS empty, e FROM typed WHERE e IS NOT NULL ORDER BY id;
-- any other error ends it, when the rows before it have been committed
UPDATE typed SET one = NULL, e = NULL;
CREATE TRIGGER ends BEFORE UPDATE ON typed FOR EACH ROW EXECUTE FUNCTION forbid(5, '55P03');
\set VERBOSITY terse
CALL gpt_batch('typed', 'body', 'one', max_len => 2, error_column => 'e');
\set VERBOSITY default
SELECT id, one IS NULL AS empty, e FROM typed WHERE one IS NOT NULL OR e IS NOT NULL ORDER BY id;
DROP TRIGGER at_commit ON typed;
DROP TRIGGER at_once ON typed;
DROP TRIGGER ends ON typed;
-- the WITH CHECK OPTION of a view speaks for its row alone too
UPDATE typed SET one = NULL, e = NULL;
CREATE VIEW checked AS SELECT id, body, one, e FROM typed WHERE one IS NULL OR id <> 3
WITH CHECK OPTION;
CALL gpt_batch('checked', 'body', 'one', max_len => 2, error_column => 'e', key => ARRAY['id'],
               filter => 'id < 7');
SELECT id, one IS NULL AS empty, e FROM typed WHERE e IS NOT NULL OR one IS NULL ORDER BY id;
UPDATE typed SET one = NULL, e = NULL;
CALL gpt_batch('checked', 'body', 'one', max_len => 2, key => ARRAY['id'], filter => 'id < 7');
\set VERBOSITY terse
CALL gpt_batch('checked', 'body', 'one', max_len => 2, key => ARRAY['id'], filter => 'id < 7',
               on_error => 'error');
\set VERBOSITY default
DROP VIEW checked;

-- keys of any kind, odd names
CREATE SCHEMA "Odd; schema";
CREATE TABLE "Odd; schema"."Doc's ""table""" (
    "the ""text""" text, "Out, put" text, "e)" text, "Key 1" text COLLATE "C", k2 numeric, k3 date[],
    PRIMARY KEY (k2, "Key 1", k3));
INSERT INTO "Odd; schema"."Doc's ""table""" ("the ""text""", "Key 1", k2, k3)
SELECT 'Row ' || i, chr(96 + i % 3), i % 2, ARRAY[date '2026-01-01' + i]
FROM generate_series(1, 30) AS i;
CALL gpt_batch('"Odd; schema"."Doc''s ""table"""', 'the "text"', 'Out, put', max_len => 2,
               error_column => 'e)', batch_size => 4);
SELECT count(*) FROM "Odd; schema"."Doc's ""table""" WHERE "Out, put" = gpt_summarize("the ""text""", 2);
-- nothing in it depends on the search path
SET search_path = pg_catalog;
UPDATE public.docs SET summary = NULL;
CALL public.gpt_batch('public.docs', 'body', 'summary', max_len => 1, max_rows => 3);
RESET search_path;
-- partitions
CREATE TABLE parts (id int PRIMARY KEY, body text, summary text) PARTITION BY RANGE (id);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (5);
CREATE TABLE parts_2 PARTITION OF parts FOR VALUES FROM (5) TO (10);
INSERT INTO parts SELECT i, 'Row ' || i FROM generate_series(0, 9) AS i;
CALL gpt_batch('parts', 'body', 'summary', max_len => 1, batch_size => 3);

-- results in another table
CREATE TABLE answers (id int PRIMARY KEY, answer text, why text);
CALL gpt_batch('docs', 'body', 'answer', target => 'answers', max_len => 3, max_rows => 8,
               error_column => 'why');
CALL gpt_batch('docs', 'body', 'answer', target => 'answers', max_len => 3, batch_size => 5);
SELECT count(*), bool_and(answer = gpt_summarize(body, 3)) FROM answers JOIN docs USING (id);
DELETE FROM answers WHERE id > 20 OR id < 18;
UPDATE answers SET answer = NULL, why = 'failed' WHERE id = 19;
CALL gpt_batch('docs', 'body', 'answer', target => 'answers', error_column => 'why', max_len => 3,
               filter => 'id BETWEEN 17 AND 20', retry_errors => true);
SELECT id, answer = gpt_summarize(body, 3) AS good, why FROM answers JOIN docs USING (id) ORDER BY id;
-- views
CREATE VIEW some_docs AS SELECT id, body, summary FROM docs WHERE id <= 20;
CREATE VIEW joined AS SELECT d.id, d.body || a.answer AS both FROM docs d JOIN answers a USING (id);
UPDATE docs SET summary = NULL;
CALL gpt_batch('some_docs', 'body', 'summary', max_len => 1, key => '{id}');
SELECT count(summary) FROM docs;
DELETE FROM answers WHERE id = 17;
CREATE TABLE more_answers (LIKE answers INCLUDING ALL);
CALL gpt_batch('joined', 'both', 'answer', target => 'more_answers', key => '{id}', max_len => 1);

-- what is refused
CALL gpt_batch(NULL, 'body', 'summary');
CALL gpt_batch('docs', NULL, 'summary');
CALL gpt_batch('docs', 'body', NULL);
CALL gpt_batch('docs_pkey', 'body', 'summary');
CALL gpt_batch('docs', 'nobody', 'summary');
CALL gpt_batch('docs', '"body"', 'summary');
CALL gpt_batch('docs', 'body', 'ctid');
CALL gpt_batch('docs', 'body', 'body');
CALL gpt_batch('docs', 'body', 'id');
CALL gpt_batch('docs', 'body', 'summary', error_column => 'summary');
CALL gpt_batch('docs', 'body', 'summary', error_column => 'id');
CALL gpt_batch('typed', 'body', 'label', error_column => 'number');
CALL gpt_batch('docs', 'body', 'summary', retry_errors => true);
CALL gpt_batch('docs', 'body', 'summary', batch_size => 0);
CALL gpt_batch('docs', 'body', 'summary', batch_size => 1000000);
CALL gpt_batch('docs', 'body', 'summary', on_error => 'ignore');
CALL gpt_batch('docs', 'body', 'summary', max_rows => -1);
CALL gpt_batch('docs', 'body', 'summary', time_limit => '-1 s');
CALL gpt_batch('docs', 'body', 'summary', '');
\set VERBOSITY terse
CALL gpt_batch('docs', 'body', 'summary', options => '{"tempreture": 1}');
CALL gpt_batch('docs', 'body', 'summary', options => '[]');
\set VERBOSITY default
CALL gpt_batch('docs', 'body', 'summary', options => '{"on_error": "null"}');
CALL gpt_batch('docs', 'body', 'summary', '{input}', options => '{"template": "{input}"}');
CALL gpt_batch('docs', 'body', 'summary', options => '{"labels": "a"}');
CALL gpt_batch('docs', 'body', 'summary', options => '{"labels": ["a", 1]}');
CALL gpt_batch('docs', 'body', 'summary', options => '{"labels": []}');
CALL gpt_batch('docs', 'body', 'summary', max_len => 0);
CALL gpt_batch('typed', 'body', 'feels', max_len => 5);
CALL gpt_batch('typed', 'body', 'feels', 'sentiment');
UPDATE typed SET call = NULL;
CALL gpt_batch('typed', 'body', 'call');
UPDATE docs SET summary = NULL;
\set VERBOSITY terse
CALL gpt_batch('docs', 'body', 'summary', model => 'no such model');
\set VERBOSITY default
CREATE TABLE no_key (id int, body text, summary text);
CALL gpt_batch('no_key', 'body', 'summary');
CALL gpt_batch('no_key', 'body', 'summary', key => '{id}');
CALL gpt_batch('some_docs', 'body', 'summary');
CALL gpt_batch('some_docs', 'body', 'summary', key => '{}');
CALL gpt_batch('some_docs', 'body', 'summary', key => '{id,id}');
CALL gpt_batch('some_docs', 'body', 'summary', key => '{id,NULL}');
CALL gpt_batch('some_docs', 'body', 'summary', key => '{{id}}');
CALL gpt_batch('joined', 'both', 'id', key => '{both}');
CREATE TABLE other_key (id text PRIMARY KEY, answer text);
CALL gpt_batch('docs', 'body', 'answer', target => 'other_key');
CREATE TABLE keyless (id int, answer text);
CALL gpt_batch('docs', 'body', 'answer', target => 'keyless');
CALL gpt_batch('docs', 'body', 'both', target => 'joined');
CALL gpt_batch('docs', 'body', 'summary', target => 'docs');
-- filters
CALL gpt_batch('docs', 'body', 'summary', filter => '');
CALL gpt_batch('docs', 'body', 'summary', filter => 'id =');
CALL gpt_batch('docs', 'body', 'summary', filter => 'true) OR (true');
CALL gpt_batch('docs', 'body', 'summary', filter => 'true; DROP TABLE docs');
CALL gpt_batch('docs', 'body', 'summary', filter => 'true;');
CALL gpt_batch('docs', 'body', 'summary', filter => 'true ORDER BY id');
CALL gpt_batch('docs', 'body', 'summary', filter => 'true UNION SELECT 1');
CALL gpt_batch('docs', 'body', 'summary', filter => 'true FOR UPDATE');
CALL gpt_batch('docs', 'body', 'summary', filter => 'true GROUP BY id');
CALL gpt_batch('docs', 'body', 'summary', filter => 'true LIMIT 1');
CALL gpt_batch('docs', 'body', 'summary', filter => 'id > $1');
CALL gpt_batch('docs', 'body', 'summary', filter => 'id > (SELECT $1)');
CALL gpt_batch('docs', 'body', 'summary', filter => 'true /* open');
CALL gpt_batch('docs', 'body', 'summary', filter => 'g.k0 > 1');
CALL gpt_batch('docs', 'body', 'summary', filter => 'id + 1');
CALL gpt_batch('docs', 'body', 'summary',
    filter => 'EXISTS (WITH d AS (DELETE FROM docs RETURNING 1) SELECT FROM d)');
SELECT count(*), count(summary) FROM docs;

-- it commits, so it needs to be on its own
BEGIN;
CALL gpt_batch('docs', 'body', 'summary');
ROLLBACK;
\set VERBOSITY sqlstate
BEGIN;
CALL gpt_batch('docs', 'body', 'summary');
ROLLBACK;
CALL gpt_batch(NULL, 'body', 'summary');
CALL gpt_batch('docs_pkey', 'body', 'summary');
CALL gpt_batch('docs', 'nobody', 'summary');
CALL gpt_batch('docs', 'body', 'summary', batch_size => 0);
CALL gpt_batch('docs', 'body', 'summary', filter => 'true; DROP TABLE docs');
CALL gpt_batch('docs', 'body', 'summary', filter => 'true) OR (true');
CALL gpt_batch('no_key', 'body', 'summary');
CALL gpt_batch('docs', 'body', 'answer', target => 'other_key');
\set VERBOSITY default
DO $$
DECLARE
    d bigint; f bigint; r bigint;
BEGIN
    CALL gpt_batch('docs', 'body', 'summary', max_len => 1, max_rows => 2, done => d, failed => f,
                   remaining => r);
    RAISE WARNING '% done, % failed, % remaining', d, f, r;
END $$;
-- what comes behind it in the block has the session's settings again
SET gpt2.on_error = 'null';
SET default_transaction_isolation = 'repeatable read';
DO $$
DECLARE
    d bigint; f bigint; r bigint;
BEGIN
    CALL gpt_batch('docs', 'body', 'summary', max_rows => 0, done => d, failed => f, remaining => r);
    RAISE WARNING '% %', current_setting('gpt2.on_error'), current_setting('transaction_isolation');
END $$;
RESET gpt2.on_error;
RESET default_transaction_isolation;
CREATE FUNCTION in_function() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    d bigint; f bigint; r bigint;
BEGIN
    CALL gpt_batch('docs', 'body', 'summary', done => d, failed => f, remaining => r);
END $$;
SELECT in_function();
-- each transaction is READ COMMITTED
CREATE TABLE levels (level text);
CREATE FUNCTION note_level() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO levels VALUES (current_setting('transaction_isolation'));
    RETURN NEW;
END $$;
CREATE TRIGGER note BEFORE UPDATE ON docs FOR EACH ROW EXECUTE FUNCTION note_level();
SET default_transaction_isolation = 'serializable';
CALL gpt_batch('docs', 'body', 'summary', max_len => 1, batch_size => 5);
RESET default_transaction_isolation;
SELECT level, count(*) FROM levels GROUP BY level;
-- a trigger that forbids some rows or undoes what is written does not make it run for ever
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.id % 2 = 0 THEN RETURN NULL; END IF;
    NEW.summary := NULL;
    RETURN NEW;
END $$;
DROP TRIGGER note ON docs;
UPDATE docs SET summary = NULL;
CREATE TRIGGER refuse BEFORE UPDATE ON docs FOR EACH ROW EXECUTE FUNCTION refuse();
CALL gpt_batch('docs', 'body', 'summary', max_len => 1, filter => 'id <= 6');
DROP TRIGGER refuse ON docs;
-- what a batch has taken is given back
CREATE TABLE many (id int PRIMARY KEY, body text, summary text);
INSERT INTO many SELECT i, 'Row' FROM generate_series(1, 120) AS i;
CREATE TABLE memory (id int, used bigint);
CREATE FUNCTION note_memory() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF to_regclass('pg_backend_memory_contexts') IS NULL THEN       -- before version 14
        INSERT INTO memory VALUES (NEW.id, 0);
    ELSE
        INSERT INTO memory
        SELECT NEW.id, sum(used_bytes) FROM pg_backend_memory_contexts WHERE name = 'SPI Proc';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER note AFTER UPDATE ON many FOR EACH ROW EXECUTE FUNCTION note_memory();
CALL gpt_batch('many', 'body', 'summary', max_len => 1, batch_size => 1);
SELECT count(*), max(used) - min(used) < 50000 AS steady FROM memory WHERE id > 20;

-- privileges and row-level security are the caller's
CREATE ROLE gpt2_filler;
CREATE ROLE gpt2_reader;
UPDATE docs SET summary = NULL;
GRANT SELECT ON docs TO gpt2_filler, gpt2_reader;
GRANT UPDATE (summary) ON docs TO gpt2_filler;
GRANT SELECT, INSERT ON answers TO gpt2_reader;
ALTER TABLE docs ENABLE ROW LEVEL SECURITY;
CREATE POLICY some_rows ON docs USING (id <= 7);
TRUNCATE answers;
SET ROLE gpt2_reader;
CALL gpt_batch('docs', 'body', 'summary', max_len => 1);
CALL gpt_batch('docs', 'body', 'answer', target => 'answers', max_len => 1);
SET ROLE gpt2_filler;
CALL gpt_batch('docs', 'body', 'summary', max_len => 1);
CALL gpt_batch('docs', 'body', 'summary', error_column => 'problem', max_len => 1);
-- said before anything is computed
CALL gpt_batch('docs', 'body', 'summary', error_column => 'problem', max_rows => 0);
RESET ROLE;
SELECT array_agg(id ORDER BY id) FROM docs WHERE summary IS NOT NULL;
REVOKE EXECUTE ON FUNCTION gpt_summarize FROM PUBLIC;
ALTER TABLE docs DISABLE ROW LEVEL SECURITY;
SET ROLE gpt2_filler;
CALL gpt_batch('docs', 'body', 'summary', max_len => 1);
RESET ROLE;
GRANT EXECUTE ON FUNCTION gpt_summarize TO PUBLIC;

-- nothing runs now
SELECT count(*) FROM gpt_stat_progress_batch WHERE command <> 'SELECT';
DROP TABLE docs, long_docs, typed, parts, answers, more_answers, no_key, other_key, keyless, levels,
many, memory CASCADE;
DROP SCHEMA "Odd; schema" CASCADE;
DROP FUNCTION in_function, note_level, note_memory, refuse, forbid;
DROP TYPE mood;
DROP DOMAIN short;
DROP ROLE gpt2_filler, gpt2_reader;
