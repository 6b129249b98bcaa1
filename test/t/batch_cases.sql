-- Statements that 033_batch_same.pl runs with many rows in flight and row by row, each of these
-- paragraphs in a transaction; the tables are its own.

SELECT id, gpt_generate(body) FROM t

SELECT gpt_generate(body), gpt_generate('The ' || body, 2), gpt_summarize(body) FROM t

SELECT gpt_generate_array(body, 3, 2, seed => id) FROM t

SELECT setseed(0.5); SELECT id, gpt_generate(body, temperature => 1) FROM t

SELECT setseed(0.5); SELECT gpt_generate(body, temperature => 1), gpt_generate(body, 2, temperature => 2) FROM t WHERE id > 3

SELECT setseed(0.5); SELECT id, random(), gpt_generate(body, temperature => 1), random() FROM t

SELECT setseed(0.5); SELECT CASE WHEN id % 3 = 0 THEN gpt_generate(body, temperature => 1) END FROM t

SELECT setseed(0.5); SELECT gpt_generate_array(body, 2, 2) FROM t; SELECT random()

SELECT id FROM t WHERE gpt_generate(body, 2) LIKE '%a%'

SELECT id, gpt_generate(body) FROM t WHERE id % 2 = 0 AND gpt_generate(body, 2) LIKE '%a%' AND id > 4 ORDER BY id DESC

SELECT id FROM t WHERE id < 4 OR gpt_generate(body, 2) LIKE '%a%'

SELECT id FROM t WHERE gpt_generate(body, 2) LIKE '%a%' AND gpt_generate(body, 1) <> ':'

SELECT id, gpt_generate(body, 2) AS g FROM t ORDER BY g, id

SELECT id FROM t ORDER BY gpt_generate(body, 2), id LIMIT 5

SELECT gpt_generate(body, 2) AS g, count(*) FROM t GROUP BY g ORDER BY g

SELECT grp, count(gpt_generate(body)), max(gpt_generate(body, 2)) FROM t GROUP BY grp ORDER BY grp

SELECT grp, string_agg(gpt_generate(body, 2), '|' ORDER BY id) FROM t GROUP BY grp ORDER BY grp

SELECT string_agg(gpt_generate(body, 2), '|' ORDER BY gpt_generate(body, 1), id) FROM t

SELECT count(gpt_generate(body)) FILTER (WHERE id > 10) FROM t

SELECT count(DISTINCT gpt_generate(body)), count(CASE WHEN id > 20 THEN gpt_generate(body) END) FROM t

SELECT grp, gpt_generate(string_agg(body, ' ' ORDER BY id)) FROM t GROUP BY grp ORDER BY grp

SELECT grp FROM t GROUP BY grp HAVING gpt_generate(min(body), 2) <> 'x' ORDER BY grp

SELECT id, gpt_generate(body || row_number() OVER (ORDER BY id)) FROM t

SELECT id, max(gpt_generate(body, 2)) OVER (PARTITION BY grp ORDER BY id) FROM t ORDER BY id

SELECT DISTINCT gpt_generate(body, 2) AS g FROM t ORDER BY g

SELECT DISTINCT ON (grp) grp, gpt_generate(body) FROM t ORDER BY grp, id

SELECT CASE WHEN id > 20 THEN gpt_generate(body) WHEN gpt_generate(body, 1) = ':' THEN 'colon' ELSE gpt_generate(body, 2) END FROM t

SELECT CASE grp WHEN 1 THEN gpt_generate(body) ELSE 'none' END FROM t

SELECT coalesce(s, gpt_generate(body, 2), 'null') FROM t

SELECT coalesce(nullif(grp, 1)::text, gpt_generate(body, 10 / (grp - 1 + CASE WHEN grp = 1 THEN 1 ELSE 0 END))) FROM t

SELECT gpt_generate(gpt_generate(body), 2) FROM t

SELECT CASE WHEN id < 9 THEN gpt_generate(gpt_generate(body), 2) END FROM t

SELECT gpt_generate(CASE WHEN id < 9 THEN gpt_generate(body) ELSE 'The' END, 2) FROM t

SELECT gpt_generate(coalesce(gpt_generate(body), 'The')) || gpt_generate(gpt_generate(gpt_generate(body, 2), 2), 2) FROM t

SELECT id, gpt_generate(body) FROM t LIMIT 7

SELECT id, gpt_generate(body) FROM t ORDER BY id OFFSET 3 LIMIT 7

SELECT id FROM (SELECT id, gpt_generate(body, 2) AS g FROM t) AS q WHERE g LIKE '%a%' LIMIT 4

SELECT id, gpt_generate(body) FROM t LIMIT 0

SELECT id, gpt_generate(body) FROM t ORDER BY grp FETCH FIRST 3 ROWS WITH TIES

SELECT t.id, u.name, gpt_generate(t.body || u.name) FROM t JOIN u USING (grp) ORDER BY 1, 2

SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off; SELECT t.id, gpt_generate(t.body || u.name) FROM t LEFT JOIN u USING (grp) ORDER BY t.id, u.name

SET LOCAL enable_hashjoin = off; SET LOCAL enable_nestloop = off; SELECT t.id, gpt_generate(t.body || u.name) FROM t FULL JOIN u USING (grp) ORDER BY t.id, u.name

SET LOCAL enable_hashjoin = off; SET LOCAL enable_nestloop = off; SELECT a.id, b.g FROM (SELECT id, gpt_generate(body, 1) AS g FROM t OFFSET 0) AS a JOIN (SELECT id, gpt_generate(body, 2) AS g FROM t OFFSET 0) AS b USING (id) ORDER BY a.id

SELECT u.name, (SELECT gpt_generate(max(t.body), 2) FROM t WHERE t.grp = u.grp) FROM u

SELECT u.name FROM u WHERE EXISTS (SELECT 1 FROM t WHERE t.grp = u.grp AND gpt_generate(t.body, 2) LIKE '%a%')

SELECT u.name, q.g FROM u, LATERAL (SELECT gpt_generate(t.body) AS g FROM t WHERE t.grp = u.grp ORDER BY id LIMIT 2) AS q

SET LOCAL enable_material = off; SELECT n, (SELECT string_agg(q.id || coalesce(q.g, '-'), ',' ORDER BY u.name, q.id) FROM u LEFT JOIN (SELECT id, gpt_generate(body, 2) AS g FROM t ORDER BY body, id LIMIT n) AS q ON true) FROM (VALUES (1), (4), (NULL), (2)) AS v (n)

SELECT u.name, q.g FROM u, LATERAL (SELECT gpt_generate(u.name) AS g) AS q

SELECT u.name, g FROM u, LATERAL gpt_generate(u.name, 2, 1) AS g

SELECT gpt_generate((SELECT min(body) FROM t) || id) FROM t

SELECT CASE WHEN id > 25 THEN gpt_generate((SELECT min(body) FROM t) || id) END FROM t

SELECT gpt_generate((SELECT name FROM u WHERE u.grp = t.grp LIMIT 1)) FROM t

SELECT id, (SELECT gpt_generate(t.body)) FROM t WHERE id < 9

WITH c AS MATERIALIZED (SELECT id, gpt_generate(body) AS g FROM t) SELECT a.id, a.g, b.g FROM c AS a JOIN c AS b ON b.id = a.id + 1 ORDER BY a.id

WITH RECURSIVE r AS (SELECT 1 AS n, 'The' AS g UNION ALL SELECT n + 1, g || gpt_generate(g, 1) FROM r WHERE n < 6) SELECT * FROM r

SELECT gpt_generate(body) FROM t WHERE id < 5 UNION ALL SELECT gpt_generate(name) FROM u

SELECT gpt_generate(body, 1) FROM t UNION SELECT gpt_generate(name, 1) FROM u ORDER BY 1

SELECT gpt_generate(body, 1) FROM t EXCEPT SELECT gpt_generate(name, 1) FROM u ORDER BY 1

SELECT id, gpt_generate(body) FROM p

SELECT id, gpt_generate(body) FROM p ORDER BY id DESC LIMIT 12

SELECT gpt_generate(x) FROM generate_series(1, 5) AS i, unnest(ARRAY['The', NULL, 'A']) AS x

SELECT gpt_generate(x) FROM (VALUES ('The'), (NULL), ('A'), ('The')) AS w(x)

SELECT unnest(ARRAY[1, 2]), gpt_generate(body) FROM t WHERE id < 4

SELECT gpt_generate(ctid::text, 2), t FROM t WHERE id < 4

SELECT * FROM v WHERE grp = 1

SELECT count(*) FROM v

SELECT max(id) FROM v WHERE g LIKE '%a%'

SELECT f(body) FROM t WHERE id < 6

SELECT gpt_generate(short(body), 2) FROM t

SELECT gpt_generate('The') FROM t WHERE id < 6

SELECT gpt_generate('The')

SELECT gpt_generate(body, NULL, 'demo', 0, 5, 0.5, id, ARRAY['a'], '{"echo": true}') FROM t

SELECT ARRAY[gpt_generate(body, 1), s], ROW(gpt_generate(body, 2)), gpt_generate(body) IS NULL FROM t

SELECT gpt_generate(body) FROM t WHERE id < 6 FOR UPDATE

UPDATE t SET s = gpt_generate(body); SELECT id, s FROM t ORDER BY id

UPDATE t SET s = gpt_generate(body) WHERE gpt_generate(body, 2) LIKE '%a%' RETURNING id, s, gpt_generate(s, 1)

UPDATE t SET s = gpt_generate(u.name) FROM u WHERE u.grp = t.grp AND u.name <> 'deux'; SELECT id, s FROM t ORDER BY id

UPDATE t SET (s, grp) = (SELECT gpt_generate(t.body, 1), 7); SELECT id, s, grp FROM t ORDER BY id

DELETE FROM t WHERE gpt_generate(body, 2) LIKE '%a%' RETURNING id

INSERT INTO u SELECT id, gpt_generate(body) FROM t; SELECT * FROM u

INSERT INTO u VALUES (1, gpt_generate('The')), (2, gpt_generate('A', 2)) RETURNING *

INSERT INTO t (id, body) SELECT id, gpt_generate(body) FROM t ON CONFLICT (id) DO UPDATE SET s = gpt_generate(excluded.body, 1); SELECT id, s FROM t ORDER BY id

MERGE INTO t USING u ON t.grp = u.grp AND u.name <> 'deux' WHEN MATCHED THEN UPDATE SET s = gpt_generate(u.name, 2) WHEN NOT MATCHED THEN INSERT VALUES (100, 1, gpt_generate(u.name, 1), ''); SELECT id, s, body FROM t ORDER BY id

WITH changed AS (UPDATE t SET s = '' WHERE id < 6 RETURNING id, body) SELECT id, gpt_generate(body) FROM changed

CREATE TABLE made AS SELECT id, gpt_generate(body) AS g FROM t; SELECT * FROM made

CREATE MATERIALIZED VIEW made AS SELECT id, gpt_generate(body) AS g FROM t; SELECT * FROM made

COPY (SELECT id, gpt_generate(body) FROM t) TO STDOUT

PREPARE q(int) AS SELECT id, gpt_generate(body) FROM t WHERE id < $1; SET LOCAL plan_cache_mode = force_generic_plan; EXECUTE q(5); EXECUTE q(9)

PREPARE q(text) AS SELECT gpt_generate(body || $1) FROM t; SET LOCAL plan_cache_mode = force_generic_plan; EXECUTE q(' x'); EXECUTE q(NULL)

DECLARE c CURSOR FOR SELECT id, gpt_generate(body) FROM t; FETCH 1 FROM c; FETCH 5 FROM c; FETCH BACKWARD 3 FROM c; MOVE 4 FROM c; FETCH ALL FROM c

DECLARE c NO SCROLL CURSOR FOR SELECT id, gpt_generate(body) FROM t; FETCH 2 FROM c; FETCH 3 FROM c; CLOSE c

DECLARE c SCROLL CURSOR WITH HOLD FOR SELECT id, gpt_generate(body, 2) FROM t ORDER BY id; FETCH 1 FROM c; COMMIT; FETCH LAST FROM c; FETCH ABSOLUTE 3 FROM c

DECLARE c CURSOR FOR SELECT id, gpt_generate(body) FROM t; FETCH 3 FROM c; SAVEPOINT a; FETCH 3 FROM c; ROLLBACK TO a; FETCH 3 FROM c

SAVEPOINT a; DECLARE c CURSOR FOR SELECT id, gpt_generate(body) FROM t; FETCH 3 FROM c; ROLLBACK TO a; SELECT gpt_generate('The')

DECLARE c CURSOR FOR SELECT id, body, gpt_generate(body) FROM t FOR UPDATE; FETCH 2 FROM c; UPDATE t SET s = 'here' WHERE CURRENT OF c; FETCH 1 FROM c; SELECT id FROM t WHERE s = 'here'

SELECT loop_over(100)

SELECT loop_over(7)

SELECT catches()

DO $$ BEGIN PERFORM gpt_generate(body, 8 - id) FROM t WHERE id < 8; RAISE EXCEPTION 'done'; END $$

SELECT gpt_generate(body, 8 - id) FROM t

SELECT gpt_generate(body, 8 - id) FROM t ORDER BY id LIMIT 4

SELECT gpt_generate(body, 10 / (8 - id)) FROM t WHERE id <> 3

DECLARE c CURSOR FOR SELECT id, gpt_generate(body, 10 / (6 - id)) FROM t; FETCH 4 FROM c; SAVEPOINT a; FETCH 2 FROM c; ROLLBACK TO a; SELECT gpt_generate('The')

SELECT CASE WHEN id <> 8 THEN gpt_generate(body, 10 / abs(8 - id)) END FROM t WHERE id BETWEEN 5 AND 11

SELECT id FROM t WHERE id <> 8 AND gpt_generate(body, 10 / abs(8 - id)) <> ':' AND id BETWEEN 5 AND 11

SELECT gpt_generate(body, options => CASE WHEN id = 9 THEN '{"bad": 1}'::jsonb END) FROM t

SELECT gpt_generate(CASE WHEN id = 9 THEN repeat('x ', 2000) ELSE body END) FROM t

SELECT gpt_generate(body, model => CASE WHEN id = 9 THEN 'none' ELSE 'demo' END) FROM t ORDER BY id

SELECT gpt_generate(body, model => CASE WHEN id = 9 THEN 'none' ELSE 'demo' END) FROM t WHERE id < 12 LIMIT 8

SET LOCAL statement_timeout = 0; SET LOCAL work_mem = '64kB'; SELECT id, length(gpt_generate(left(repeat(body, 20), 300))) FROM t

SET LOCAL parallel_setup_cost = 0; SET LOCAL parallel_tuple_cost = 0; SET LOCAL min_parallel_table_scan_size = 0; SELECT id, gpt_generate(body), gpt_generate(body, 1 + id % 2) FROM t ORDER BY id

SET LOCAL FORCED_PARALLEL = on; SELECT id, gpt_generate(short(body)) FROM t ORDER BY id

SET LOCAL jit = on; SET LOCAL jit_above_cost = 0; SELECT id, gpt_generate(body) FROM t WHERE gpt_generate(body, 2) LIKE '%a%'

SET LOCAL enable_seqscan = off; SELECT id, gpt_generate(id::text) FROM t WHERE id BETWEEN 3 AND 20

SELECT gpt_generate(body), gpt_generate(body) FROM t TABLESAMPLE bernoulli (100)

SELECT grp, id % 2 AS odd, count(gpt_generate(body, 2)), max(gpt_generate(body, 1)) FROM t GROUP BY GROUPING SETS ((grp), (odd), ()) ORDER BY 1, 2

SET LOCAL enable_hashagg = off; SELECT grp, id % 2 AS odd, count(gpt_generate(body, 2)), string_agg(gpt_generate(body, 1), ',' ORDER BY id) FROM t GROUP BY CUBE (grp, odd) ORDER BY 1, 2

SELECT grp, gpt_generate(min(body), 2), grouping(grp), gpt_generate('The ' || grouping(grp), 1) FROM t GROUP BY ROLLUP (grp) ORDER BY grp

SELECT gpt_generate(body, 1) AS g, count(*) FROM t GROUP BY ROLLUP (g) ORDER BY 1

SELECT mode() WITHIN GROUP (ORDER BY gpt_generate(body, 1)), percentile_disc(0.5) WITHIN GROUP (ORDER BY gpt_loss(body)) FROM t

SELECT max(gpt_generate(body, 2)) FILTER (WHERE gpt_generate(body, 1) <> ':') FROM t GROUP BY grp ORDER BY grp

SELECT DISTINCT ON (gpt_generate(body, 1)) gpt_generate(body, 1), id FROM t ORDER BY gpt_generate(body, 1), id DESC

SELECT gpt_generate(body, 1) FROM t INTERSECT ALL SELECT gpt_generate(body, 1) FROM t WHERE id > 9 ORDER BY 1

CREATE MATERIALIZED VIEW made AS SELECT id, gpt_generate(body) AS g FROM t; CREATE UNIQUE INDEX ON made (id); UPDATE t SET body = body || '!' WHERE id < 9; REFRESH MATERIALIZED VIEW CONCURRENTLY made; SELECT * FROM made ORDER BY id; REFRESH MATERIALIZED VIEW made; SELECT count(g) FROM made

PREPARE q(int) AS SELECT id, gpt_generate(body, $1) FROM t WHERE id < 2 * $1 LIMIT $1; EXECUTE q(1); EXECUTE q(2); EXECUTE q(3); EXECUTE q(4); EXECUTE q(5); EXECUTE q(6); EXECUTE q(7); EXECUTE q(NULL); ALTER TABLE t ADD extra int; EXECUTE q(3); CREATE TABLE made AS EXECUTE q(4); SELECT * FROM made

PREPARE q(text) AS UPDATE t SET s = gpt_generate(body || $1) WHERE id < 5 RETURNING s; EXECUTE q('a'); EXECUTE q('b'); EXECUTE q('c'); EXECUTE q('d'); EXECUTE q('e'); EXECUTE q('f'); EXECUTE q('g')

SELECT cursors()

SELECT * FROM query_of(6)

SELECT id, query_of(3) FROM t WHERE id < 3

SELECT * FROM rows_of(7)

SELECT g FROM rows_of(7) WHERE id > 2 LIMIT 2

SELECT t.id, r.g FROM t, LATERAL rows_of(t.id) AS r WHERE t.id < 5

SELECT strict_of(body) FROM t WHERE id < 7

SELECT gpt_generate(asks(body), 2) FROM t WHERE id < 12

SELECT id, w FROM t, LATERAL regexp_split_to_table(gpt_generate(body), ' ') AS w WHERE id < 9

SELECT id, w.* FROM t, ROWS FROM (gpt_generate(body, 2, 1), generate_series(1, 2)) AS w WHERE id < 6

SELECT id, regexp_split_to_table(gpt_generate(body), ' ') FROM t WHERE id < 9

SELECT id, q.g FROM t, LATERAL (SELECT gpt_generate(t.body || u.name, 2) AS g FROM u WHERE u.grp = t.grp OFFSET 0) AS q

WITH RECURSIVE r AS (SELECT id, gpt_generate(body, 1) AS g FROM t WHERE id < 4 UNION SELECT r.id + 4, gpt_generate(r.g || t.body, 1) FROM r JOIN t ON t.id = r.id + 4) SELECT * FROM r ORDER BY 1, 2

WITH RECURSIVE r AS (SELECT 1 AS n, 'The' AS g UNION ALL SELECT n + 1, gpt_generate(g, 1) FROM r WHERE gpt_generate(g, 2) <> '' AND n < 9) SELECT * FROM r LIMIT 4

SET LOCAL parallel_setup_cost = 0; SET LOCAL parallel_tuple_cost = 0; SET LOCAL min_parallel_table_scan_size = 0; SELECT grp, count(*), max(gpt_generate(body)) FROM t WHERE short(body) <> '' GROUP BY grp ORDER BY grp

SET LOCAL parallel_setup_cost = 0; SET LOCAL parallel_tuple_cost = 0; SET LOCAL min_parallel_table_scan_size = 0; SELECT a.id, gpt_generate(a.body || b.id) FROM t AS a JOIN t AS b ON b.id = a.id + 1 WHERE gpt_generate(b.body, 2) LIKE '%a%' ORDER BY 1

CREATE TRIGGER r BEFORE INSERT OR UPDATE ON t FOR EACH ROW EXECUTE FUNCTION on_row(); INSERT INTO t SELECT id + 100, grp, gpt_generate(body) FROM t; UPDATE t SET body = 'The ' || id WHERE id < 9; SELECT * FROM t ORDER BY id

CREATE TRIGGER r AFTER UPDATE ON t REFERENCING NEW TABLE AS rows FOR EACH STATEMENT EXECUTE FUNCTION on_statement(); UPDATE t SET body = gpt_generate(body) WHERE id < 9; SELECT * FROM u ORDER BY grp, name

CREATE RULE r AS ON INSERT TO u DO ALSO UPDATE t SET s = gpt_generate(NEW.name, 2) WHERE grp = NEW.grp; INSERT INTO u SELECT grp, gpt_generate(body) FROM t WHERE id < 4; SELECT id, s FROM t ORDER BY id

SET LOCAL ROLE reader; SELECT id, gpt_generate(body) FROM secret

SET LOCAL ROLE reader; SELECT id FROM secret WHERE leak(body) <> ''

SET LOCAL ROLE reader; SELECT id FROM secret WHERE gpt_generate(leak(body), 1) <> ':' AND id < 20

SET LOCAL ROLE reader; UPDATE secret SET s = gpt_generate(body, 2) WHERE id < 9 RETURNING id, s

SET LOCAL ROLE reader; UPDATE secret SET s = 'x' WHERE id < 9

CREATE VIEW barrier WITH (security_barrier) AS SELECT * FROM t WHERE gpt_generate(body, 2) LIKE '%a%'; SELECT id FROM barrier WHERE leak(body) <> ''; SELECT id FROM barrier WHERE gpt_generate(leak(body), 1) <> ':'

CREATE VIEW checked AS SELECT id, body, s FROM t WHERE gpt_generate(body, 1) <> 'x' WITH CHECK OPTION; UPDATE checked SET body = gpt_generate(body, 2), s = body; SELECT * FROM checked ORDER BY id; INSERT INTO checked SELECT id + 100, gpt_generate(body) FROM t WHERE id < 9

ALTER TABLE u ADD CHECK (gpt_generate(name, 1) IS NOT NULL); INSERT INTO u SELECT id, gpt_generate(body, 2) FROM t WHERE id < 7; SELECT * FROM u ORDER BY 1, 2; INSERT INTO u SELECT id, gpt_generate(body, 2) FROM t

ALTER TABLE u ADD CHECK (gpt_generate(name, 1) <> gpt_generate(name, 1))

CREATE DOMAIN text_of AS text CHECK (gpt_generate(VALUE, 1) <> 'x'); SELECT gpt_generate(body)::text_of FROM t; SELECT gpt_generate(body::text_of) FROM t

ALTER TABLE u ADD g text DEFAULT gpt_generate('The', 2); INSERT INTO u VALUES (7, 'seven'); SELECT * FROM u ORDER BY 1, 2

ALTER TABLE u ALTER name TYPE text USING gpt_generate(name, 2); SELECT * FROM u ORDER BY 1, 2

ALTER TABLE u ADD g text GENERATED ALWAYS AS (gpt_generate(name, 2)) STORED

CREATE INDEX ON u (gpt_generate(name, 2))

CREATE INDEX ON u (name) WHERE gpt_generate(name, 2) <> ''

INSERT INTO t (id, body) SELECT id % 7, gpt_generate(body) FROM t WHERE id > 20 ON CONFLICT (id) DO NOTHING RETURNING id, body

INSERT INTO t (id, body) SELECT id, gpt_generate(body) FROM t ON CONFLICT (id) DO UPDATE SET s = excluded.body WHERE gpt_generate(t.body, 2) LIKE '%a%' RETURNING id, s, gpt_generate(s, 1)

INSERT INTO t (id, body) SELECT id % 7, gpt_generate(body) FROM t ON CONFLICT (id) DO UPDATE SET s = excluded.body

MERGE INTO t USING (SELECT grp, gpt_generate(name, 2) AS g FROM u WHERE name <> 'deux') AS w ON t.grp = w.grp AND t.id < 9 WHEN MATCHED AND gpt_generate(t.body, 1) <> ':' THEN UPDATE SET s = g WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT VALUES (100, 1, g, ''); SELECT id, s, body FROM t ORDER BY id

COPY (SELECT id, gpt_generate(body) FROM t WHERE gpt_generate(body, 2) LIKE '%a%' ORDER BY id DESC) TO STDOUT (FORMAT csv); COPY (UPDATE t SET s = gpt_generate(body) WHERE id < 5 RETURNING id, s) TO STDOUT

CREATE TABLE made AS WITH c AS (DELETE FROM t WHERE id < 6 RETURNING *) SELECT id, gpt_generate(body) AS g FROM c; SELECT * FROM made ORDER BY id; SELECT id, gpt_generate(body) AS g INTO made2 FROM t; SELECT count(g) FROM made2

SELECT id, gpt_generate(body) FROM t WHERE grp = 1 ORDER BY id FOR UPDATE SKIP LOCKED

SELECT id, lag(gpt_generate(body, 2)) OVER (ORDER BY id), gpt_generate(lag(body) OVER (ORDER BY id), 1), count(*) FILTER (WHERE gpt_generate(body, 1) <> ':') OVER (ORDER BY id) FROM t

SELECT xmlelement(name a, gpt_generate(body, 1)) IS NULL, greatest(gpt_generate(body, 1), gpt_generate(body, 2)), gpt_generate(body, 1) IN ('x', ':'), (ARRAY[gpt_generate(body, 1)])[1], gpt_generate(body, 1) COLLATE "C" FROM t WHERE id < 9
