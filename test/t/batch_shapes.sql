-- Statements that give the same rows and errors with many rows in flight and row by row.  Between
-- two empty lines is what runs in one transaction, which is rolled back; its last semicolon is left
-- out.  For BatchStatements.pm; the tables are those of batch_setup.sql.

SELECT id, gpt_generate(body, 3) FROM t

SELECT gpt_generate(body, 3), gpt_summarize(alt, 3), id FROM t ORDER BY id DESC

SELECT gpt_generate('constant', 3) FROM t

SELECT gpt_generate(gpt_summarize(body, 4), 3) FROM t

SELECT gpt_generate(gpt_summarize(gpt_generate(body, 2), 4), 3), gpt_generate(body, 2) FROM t
    WHERE id < 20

SELECT id FROM t WHERE gpt_generate(body, 3) LIKE '%a%' ORDER BY id

SELECT id, gpt_generate(body, 4) FROM t WHERE gpt_generate(body, 3) LIKE '%e%' AND id > 5 AND
    gpt_summarize(body, 3) <> '' ORDER BY id

SELECT id, CASE WHEN flag THEN gpt_generate(body, 3) WHEN alt IS NOT NULL THEN
    gpt_summarize(alt, 3) ELSE 'none' END FROM t ORDER BY id

SELECT id, CASE grp WHEN 1 THEN gpt_generate(body, 3) ELSE '-' END FROM t ORDER BY id

SELECT id, coalesce(alt, gpt_generate(body, 3), gpt_generate('empty', 2)) FROM t ORDER BY id

SELECT id, flag AND gpt_generate(body, 3) LIKE '%a%', flag OR gpt_generate(body, 3) LIKE '%a%'
    FROM t ORDER BY id

SELECT gpt_generate(CASE WHEN body IS NULL THEN gpt_generate('nested', 2) ELSE body END, 3) FROM
    t

SELECT CASE WHEN flag THEN gpt_generate(gpt_generate(body, 2), 3) END FROM t

SELECT id, gpt_generate(body, 3) FROM t ORDER BY 2, 1

SELECT gpt_generate(body, 1) AS g, count(*) FROM t GROUP BY 1 ORDER BY 1

SELECT DISTINCT gpt_generate(body, 2) FROM t ORDER BY 1

SELECT DISTINCT ON (grp) grp, gpt_generate(body, 3) FROM t ORDER BY grp, id

SELECT grp, count(*) FROM t GROUP BY grp HAVING gpt_generate('group ' || grp, 3) <> 'x' ORDER BY
    1

SELECT grp, string_agg(gpt_generate(body, 3), '|' ORDER BY id) FROM t GROUP BY grp ORDER BY grp

SELECT grp, max(gpt_generate(body, 3)), min(gpt_generate(body, 3)) FROM t GROUP BY grp ORDER BY
    grp

SELECT grp, max(gpt_generate(body, 3)) FILTER (WHERE flag) FROM t GROUP BY grp ORDER BY grp

SELECT count(DISTINCT gpt_generate(body, 2)) FROM t

SELECT gpt_generate(string_agg(body, ' ' ORDER BY id), 5) FROM t GROUP BY grp ORDER BY grp

SELECT gpt_generate(max(body), 3), gpt_generate(min(body), 3) FROM t

SELECT grp, grouping(grp), gpt_generate('g' || coalesce(grp::text, 'all'), 3) FROM t GROUP BY
    ROLLUP (grp) ORDER BY 1

SELECT id, row_number() OVER w, gpt_generate(body || row_number() OVER w, 3) FROM t WINDOW w AS
    (ORDER BY id)

SELECT id, lag(gpt_generate(body, 3)) OVER (ORDER BY id) FROM t

SELECT id, gpt_generate(body, 3) FROM t ORDER BY id LIMIT 5

SELECT id, gpt_generate(body, 3) FROM t ORDER BY id OFFSET 3 LIMIT 5

SELECT id, gpt_generate(body, 3) FROM t LIMIT 0

SELECT id, gpt_generate(body, 3) FROM t ORDER BY grp FETCH FIRST 2 ROWS WITH TIES

SELECT * FROM (SELECT id, gpt_generate(body, 3) AS g FROM t ORDER BY id) q WHERE g LIKE '%a%'
    LIMIT 3

SELECT t.id, u.id, gpt_generate(t.body || u.word, 3) FROM t JOIN u USING (id) ORDER BY 1

SELECT t.id, gpt_generate(t.body || coalesce(u.word, ''), 3) FROM t LEFT JOIN u ON u.id = t.id
    AND u.id > 3 ORDER BY 1

SELECT t.id FROM t LEFT JOIN u ON u.id = t.id WHERE u.id IS NULL AND gpt_generate(t.body, 3)
    LIKE '%a%' ORDER BY 1

SELECT t.id FROM t JOIN u ON u.id = t.id AND gpt_generate(t.body || u.word, 3) LIKE '%a%' ORDER
    BY 1

SELECT t.id, (SELECT gpt_generate(t.body, 3)) FROM t ORDER BY id

SELECT t.id, (SELECT string_agg(gpt_generate(u.word, 2), ',' ORDER BY u.id) FROM u WHERE u.id <
    t.id) FROM t WHERE t.id < 8 ORDER BY id

SELECT id FROM t WHERE EXISTS (SELECT 1 FROM u WHERE u.id = t.id AND gpt_generate(u.word, 3)
    LIKE '%a%') ORDER BY id

SELECT id FROM t WHERE body IN (SELECT gpt_generate(word, 2) FROM u) OR id < 3 ORDER BY id

SELECT u.id, l.* FROM u, LATERAL (SELECT t.id AS tid, gpt_generate(u.word || t.id, 3) FROM t
    WHERE t.id <= u.id ORDER BY t.id LIMIT 2) l ORDER BY 1, 2

SELECT u.id, g FROM u, LATERAL gpt_generate(u.word, 3) AS g ORDER BY 1

SELECT u.id, g FROM u, LATERAL gpt_generate(u.word, 3, n => 2, seed => 1) AS g ORDER BY 1

SELECT id, gpt_generate(body, 3, n => 2, seed => 7) FROM t WHERE id < 6

SELECT id, gpt_generate_array(body, 3, n => 2, seed => id) FROM t ORDER BY id

WITH c AS (SELECT id, gpt_generate(body, 3) AS g FROM t) SELECT * FROM c ORDER BY id

WITH c AS MATERIALIZED (SELECT id, gpt_generate(body, 3) AS g FROM t) SELECT a.id, b.g FROM c a
    JOIN c b USING (id) ORDER BY 1 LIMIT 4

WITH RECURSIVE r AS (SELECT 1 AS n, 'start'::text AS x UNION ALL SELECT n + 1, x ||
    gpt_generate(x, 2) FROM r WHERE n < 5) SELECT * FROM r

SELECT gpt_generate(body, 3) FROM t WHERE id < 5 UNION SELECT gpt_generate(word, 3) FROM u ORDER
    BY 1

SELECT gpt_generate(body, 3) FROM t WHERE id < 5 UNION ALL SELECT gpt_summarize(word, 3) FROM u

SELECT gpt_generate(word, 3) FROM u EXCEPT SELECT gpt_generate(word, 3) FROM u WHERE id > 4
    ORDER BY 1

SELECT id, gpt_generate(body, 3) FROM part ORDER BY id

SELECT id, gpt_generate(body, 3) FROM part WHERE gpt_summarize(body, 3) <> '' ORDER BY id

SELECT id, gpt_generate(body, 3) FROM part WHERE id > 7 LIMIT 5

UPDATE t SET alt = gpt_generate(body, 3) WHERE id < 20; SELECT id, alt FROM t ORDER BY id

UPDATE t SET alt = gpt_generate(body, 3) WHERE id < 10 RETURNING id, alt

UPDATE t SET grp = 9 WHERE id < 10 RETURNING id, gpt_generate(body, 3)

UPDATE t SET alt = gpt_generate(u.word, 3) FROM u WHERE u.id = t.id; SELECT id, alt FROM t ORDER
    BY id

UPDATE part SET body = gpt_generate(body, 3); SELECT * FROM part ORDER BY id

DELETE FROM t WHERE gpt_generate(body, 3) LIKE '%a%'; SELECT id FROM t ORDER BY id

INSERT INTO sink SELECT id, gpt_generate(body, 3) FROM t; SELECT * FROM sink ORDER BY id

INSERT INTO sink VALUES (1, gpt_generate('one', 3)), (2, gpt_generate('two', 3)) RETURNING *

INSERT INTO narrow SELECT id, gpt_generate(body, 1) FROM t WHERE body IS NOT NULL; SELECT
    count(*) FROM narrow

INSERT INTO t (id, body) VALUES (1, 'again') ON CONFLICT (id) DO UPDATE SET alt =
    gpt_generate(t.body || excluded.body, 3) RETURNING alt

MERGE INTO t USING u ON t.id = u.id WHEN MATCHED THEN UPDATE SET alt = gpt_generate(u.word, 3)
    WHEN NOT MATCHED THEN INSERT (id) VALUES (u.id); SELECT id, alt FROM t ORDER BY id

MERGE INTO sink USING (SELECT id, gpt_generate(word, 3) AS g FROM u) q ON sink.id = q.id WHEN
    NOT MATCHED THEN INSERT VALUES (q.id, q.g); SELECT * FROM sink ORDER BY id

CREATE TABLE made AS SELECT id, gpt_generate(body, 3) AS g FROM t; SELECT * FROM made ORDER BY
    id

CREATE MATERIALIZED VIEW mv AS SELECT id, gpt_generate(body, 3) AS g FROM t; SELECT * FROM mv
    ORDER BY id; REFRESH MATERIALIZED VIEW mv; SELECT count(*) FROM mv

COPY (SELECT id, gpt_generate(body, 3) FROM t ORDER BY id) TO STDOUT

PREPARE p AS SELECT id, gpt_generate(body || $1, 3) FROM t WHERE id < $2 ORDER BY id; EXECUTE p
    (' a', 5); EXECUTE p (' b', 9); EXECUTE p (' c', 3); DEALLOCATE p

SET LOCAL plan_cache_mode = force_generic_plan; PREPARE p AS SELECT id, gpt_generate(body || $1,
    $2) FROM t ORDER BY id LIMIT $2; EXECUTE p (' a', 5); EXECUTE p (' b', 2); DEALLOCATE p

DECLARE c CURSOR FOR SELECT id, gpt_generate(body, 3) FROM t; FETCH 1 FROM c; FETCH 3 FROM c;
    FETCH 0 FROM c; MOVE 2 FROM c; FETCH 2 FROM c; CLOSE c

DECLARE c CURSOR FOR SELECT id, gpt_generate(body, 3) FROM t; FETCH 4 FROM c; FETCH BACKWARD 2
    FROM c; FETCH ABSOLUTE 1 FROM c; FETCH LAST FROM c; CLOSE c

DECLARE c SCROLL CURSOR FOR SELECT id, gpt_generate(body, 3) FROM t WHERE gpt_generate(body, 2)
    LIKE '%a%'; FETCH 4 FROM c; FETCH PRIOR FROM c; FETCH FIRST FROM c; FETCH ALL FROM c; CLOSE
    c

DECLARE c NO SCROLL CURSOR FOR SELECT id, gpt_generate(body, 3) FROM t; FETCH 4 FROM c; FETCH
    ALL FROM c; CLOSE c

DECLARE c CURSOR WITH HOLD FOR SELECT id, gpt_generate(body, 3) FROM t; FETCH 2 FROM c; COMMIT;
    FETCH 3 FROM c; CLOSE c; BEGIN

DECLARE c CURSOR FOR SELECT id, gpt_generate(body, 3) FROM t FOR UPDATE; FETCH 2 FROM c; UPDATE
    t SET alt = 'here' WHERE CURRENT OF c; FETCH 2 FROM c; SELECT id FROM t WHERE alt = 'here'

SAVEPOINT a; DECLARE c CURSOR FOR SELECT id, gpt_generate(body, 3) FROM t; FETCH 2 FROM c;
    ROLLBACK TO a; SELECT gpt_generate('after', 3)

DECLARE c CURSOR FOR SELECT id, gpt_generate(body, 3) FROM t; SAVEPOINT a; FETCH 2 FROM c;
    ROLLBACK TO a; FETCH 2 FROM c; RELEASE a; FETCH 2 FROM c

DECLARE c CURSOR FOR SELECT id, gpt_generate(body, 3) FROM t; SAVEPOINT a; FETCH 2 FROM c;
    SELECT 1/0; ROLLBACK TO a; FETCH 3 FROM c

SELECT * FROM pl(100)

SELECT * FROM pl(3)

SELECT * FROM many()

SELECT many() LIMIT 3

SELECT id, one(body) FROM t ORDER BY id

SELECT * FROM v WHERE grp = 1 ORDER BY id

SELECT count(g), max(g) FROM v

DO $$ DECLARE x text; BEGIN x := gpt_generate('simple', 3); RAISE NOTICE '%', x; FOR i IN 1 .. 3
    LOOP x := gpt_generate(x, 2); RAISE NOTICE '%', x; END LOOP; END $$

DO $$ DECLARE r record; BEGIN FOR r IN SELECT id, gpt_generate(body, 3) AS g FROM t ORDER BY id
    LOOP BEGIN IF r.id % 5 = 0 THEN RAISE division_by_zero; END IF; RAISE NOTICE '% %', r.id,
    r.g; EXCEPTION WHEN division_by_zero THEN RAISE NOTICE 'caught %', r.id; END; END LOOP; END
    $$

SELECT setseed(0.3); SELECT id, gpt_generate(body, 4, temperature => 1) FROM t ORDER BY id;
    SELECT random()

SELECT setseed(0.3); SELECT id, gpt_generate(body, 4, temperature => 1) FROM t ORDER BY id LIMIT
    4; SELECT random()

SELECT setseed(0.4); SELECT id, random(), gpt_generate(body, 4, temperature => 1), random(),
    gpt_generate(alt, 4, temperature => 1.5) FROM t ORDER BY id; SELECT random()

SELECT setseed(0.5); SELECT id, CASE WHEN flag THEN gpt_generate(body, 4, temperature => id % 3)
    END FROM t ORDER BY id; SELECT random()

SELECT setseed(0.6); SELECT id, gpt_generate(gpt_generate(body, 2, temperature => 1), 4,
    temperature => 1) FROM t ORDER BY id; SELECT random()

SELECT setseed(0.7); SELECT id FROM t WHERE gpt_generate(body, 4, temperature => 1) LIKE '%a%'
    ORDER BY id; SELECT random()

SELECT setseed(0.7); SELECT id, gpt_generate_array(body, 2, n => 2) FROM t WHERE id < 9 ORDER BY
    id; SELECT random()

SELECT setval('s', 1); SELECT id, nextval('s'), gpt_generate(body, 3) FROM t ORDER BY id; SELECT
    nextval('s') > 40

SELECT id, gpt_generate(body || random()::text, 1) IS NULL FROM t ORDER BY id

SELECT id, gpt_generate(body, max_len => 1 + id % 4) FROM t ORDER BY id

SELECT id, gpt_generate(body, 5 - id) FROM t ORDER BY id

SELECT id, gpt_generate(body, 10 / (id - 9)) FROM t ORDER BY id

SELECT id, gpt_generate(fails_at(id, 7), 3) FROM t ORDER BY id

SELECT id, gpt_generate(fails_at(id, 7), 3) FROM t ORDER BY id LIMIT 6

SELECT id, gpt_generate(fails_at(id, 7), 3) FROM t ORDER BY id LIMIT 7

SELECT id, CASE WHEN id <> 7 THEN gpt_generate(fails_at(id, 7), 3) END FROM t ORDER BY id

SELECT id, CASE WHEN fails_at(id, 7) <> '' THEN gpt_generate(body, 3) END FROM t ORDER BY id

SELECT id, gpt_generate(body, 3, options => ('{"min_p": ' || id / 30.0 || '}')::jsonb) FROM t
    ORDER BY id

SELECT id, gpt_generate(body, 3, model => CASE id WHEN 12 THEN 'missing' ELSE 'demo' END) FROM t
    ORDER BY id

SELECT id, gpt_generate(repeat(body || ' ', id * id * 10), 3) IS NULL FROM t ORDER BY id

SELECT * FROM caught('SELECT gpt_generate(fails_at(id, 7), 3) FROM t ORDER BY id')

SELECT * FROM
    caught('SELECT gpt_generate(body, 3, model => CASE id WHEN 12 THEN ''missing'' ELSE ''demo'' END) FROM t ORDER BY id')

SELECT * FROM
    caught('SELECT gpt_generate(body, 3) FROM t WHERE id / (id - 11) > -100 ORDER BY id')

DECLARE c CURSOR FOR SELECT id, gpt_generate(fails_at(id, 7), 3) FROM t; FETCH 5 FROM c;
    SAVEPOINT a; FETCH 5 FROM c; ROLLBACK TO a; SELECT gpt_generate('after', 3)

SELECT id, gpt_generate(body, 3) FROM t ORDER BY id FOR UPDATE

SELECT id, gpt_generate(body, 3) FROM t TABLESAMPLE SYSTEM (100) ORDER BY id

SELECT id, gpt_generate(body, 3) FROM t WHERE ctid = '(0,3)'

SELECT x, gpt_generate(x, 3) FROM unnest(ARRAY['a', 'b', NULL, 'd']) x

SELECT x, gpt_generate(x, 3) FROM (VALUES ('a'), ('b'), (NULL), ('d')) q (x)

SELECT gpt_generate(x, 3) FROM generate_series(1, 5) i, LATERAL (SELECT 'n' || i AS x) q

SELECT generate_series(1, 3), gpt_generate(body, 3) FROM t WHERE id < 4

SELECT ROW(id, gpt_generate(body, 3)), ARRAY[gpt_generate(body, 3), alt] FROM t ORDER BY id

SELECT t, gpt_generate(t::text, 3) FROM t ORDER BY id

SELECT (t).body, gpt_generate((t).body, 3) FROM (SELECT t FROM t) q ORDER BY (t).id

SELECT gpt_summarize(E' \n'), gpt_summarize(''), gpt_summarize(NULL), gpt_summarize(body, 3)
    FROM t WHERE id < 3

SELECT tableoid::regclass, ctid, gpt_generate(body, 3) FROM part ORDER BY id

SELECT sum(length(gpt_generate(body, 3))) OVER (ORDER BY id), gpt_generate(body, 3) FROM t ORDER
    BY id

SELECT a.id, gpt_generate(a.body, 3) FROM t a JOIN t b ON a.id = b.id ORDER BY 1

SET LOCAL enable_hashjoin = off; SET LOCAL enable_nestloop = off; SELECT a.id,
    gpt_generate(a.body || b.alt, 3) FROM t a JOIN t b ON a.id = b.id ORDER BY 1

SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off; SELECT a.id,
    gpt_generate(a.body || b.alt, 3) FROM t a JOIN t b ON a.id = b.id ORDER BY 1

SET LOCAL enable_hashjoin = off; SET LOCAL enable_nestloop = off; SELECT q.g, w.g FROM (SELECT
    grp, gpt_generate(body, 2) AS g FROM t OFFSET 0) q JOIN (SELECT id, gpt_generate(word, 2) AS
    g FROM u ORDER BY id OFFSET 0) w ON w.id = q.grp ORDER BY 1, 2

SET LOCAL work_mem = '64kB'; SELECT id, md5(gpt_generate(body || left(repeat(' y', 20000), 400),
    3)) FROM t ORDER BY id

SET LOCAL enable_seqscan = off; SELECT id, gpt_generate(body, 3) FROM t WHERE id BETWEEN 3 AND 9

SET LOCAL enable_seqscan = off; SELECT id, gpt_generate('x' || id, 3) FROM t WHERE id BETWEEN 3
    AND 9

SET LOCAL jit_above_cost = 0; SET LOCAL jit = on; SELECT id, gpt_generate(body, 3) FROM t ORDER
    BY id

SET LOCAL parallel_setup_cost = 0; SET LOCAL parallel_tuple_cost = 0; SET LOCAL
    min_parallel_table_scan_size = 0; SET LOCAL FORCED_PARALLEL = on; SELECT id,
    gpt_generate(body, 3) FROM t WHERE flag ORDER BY id

SET LOCAL parallel_setup_cost = 0; SET LOCAL parallel_tuple_cost = 0; SET LOCAL
    min_parallel_table_scan_size = 0; SELECT gpt_generate(fails_at(id, 7), 3) FROM t ORDER BY id

SELECT id, gpt_generate(body, 3) FROM t WHERE false

SELECT id, gpt_generate(body, 3) FROM t WHERE id = (SELECT min(id) FROM u WHERE
    gpt_generate(word, 2) <> '')

SELECT setseed(0.1); SELECT id, gpt_generate(body, 4, temperature => 1) FROM part ORDER BY id;
    SELECT random()

SELECT setseed(0.1); SELECT id, gpt_generate(body, 4, temperature => 1) FROM t
    WHERE random() < 0.5; SELECT random()

SELECT setseed(0.1); SELECT id, gpt_generate(body, 4, temperature => id % 3),
    gpt_generate(gpt_generate(body, 2, temperature => (id + 2) % 4), 3, temperature => id % 4) FROM t
    WHERE gpt_generate(body, 3, temperature => (id + 1) % 3) LIKE '%a%' ORDER BY id; SELECT random()

SET LOCAL gpt2.temperature = 0.8; SELECT setseed(0.1); SELECT id, gpt_generate(body, 4),
    gpt_generate(gpt_summarize(alt, 4), 4) FROM t ORDER BY id; SELECT random()

SELECT setseed(0.2); SELECT id, gpt_generate(body, 4, temperature => 1, seed => nullif(id, 12))
    FROM t ORDER BY id; SELECT random()

SELECT count(*), max(grp) FROM v

SELECT grp, count(*) FROM (SELECT id, grp, gpt_generate(body, 3), gpt_summarize(body, 2) AS s FROM t
    WHERE gpt_generate(body, 2) LIKE '%e%') q GROUP BY grp ORDER BY grp

SELECT DISTINCT grp FROM (SELECT grp, gpt_generate(gpt_summarize(body, 2), 3) FROM t OFFSET 0) q
    ORDER BY grp

SELECT q.id FROM (SELECT id, gpt_generate(body, 3) AS g, length(body) AS l FROM t OFFSET 1) q
    WHERE q.l > 8 ORDER BY id

SELECT id, x FROM (SELECT id, gpt_generate(body, 3) AS x, gpt_generate(alt, 2) AS y FROM t) q
    ORDER BY id % 5, id LIMIT 7

SELECT * FROM (SELECT id, length(body) AS l, gpt_generate(gpt_summarize(body, 3), 2) FROM t) q
    ORDER BY l DESC NULLS LAST, id OFFSET 2 LIMIT 3

SELECT * FROM (SELECT id, gpt_generate(body, 3) AS g FROM t) q ORDER BY g, id LIMIT 3

SELECT * FROM (SELECT id, grp, gpt_generate(body, 3) FROM t) q ORDER BY grp
    FETCH FIRST 1 ROWS WITH TIES

SELECT q FROM (SELECT id, gpt_generate(body, 3) AS g FROM t OFFSET 0) q ORDER BY id LIMIT 3

SELECT id, gpt_generate((SELECT body FROM t AS w WHERE id > 3 ORDER BY id LIMIT 1) || body, 3) FROM t
    ORDER BY id

SELECT id, CASE WHEN id > 5 THEN gpt_generate((SELECT fails_at(max(id), 12) FROM u) || body, 3) END
    FROM t ORDER BY id

SELECT u.id, q.g FROM u, LATERAL (SELECT t.id, gpt_generate(u.word || body, 3) AS g FROM t
    WHERE t.id < u.id OFFSET 0) q ORDER BY u.id, q.id

SELECT u.id, (SELECT string_agg(gpt_generate((SELECT min(word) FROM u AS w WHERE w.id >= u.id) || body,
    2), ',' ORDER BY t.id) FROM t WHERE t.id < 5) FROM u ORDER BY id

SELECT id, gpt_classify(body, ARRAY['good', 'bad']), gpt_filter(body, 'It is about a printer') FROM t
    ORDER BY id

SELECT id FROM t WHERE gpt_filter(body, 'It is about a printer') ORDER BY id

SELECT id, gpt_label_prob(body, ARRAY['good', 'bad']) FROM t ORDER BY 2 DESC, id

SELECT id, gpt_classify(body, ARRAY['a', 'b'], options => '{"calibrate": false, "min_prob": 0.6}')
    FROM t ORDER BY id

SELECT id, gpt_classify(body, CASE WHEN id = 9 THEN ARRAY['a', NULL] ELSE ARRAY['a', 'b'] END)
    FROM t ORDER BY id

SELECT id, gpt_classify(body, ARRAY['a', 'b']) FROM t WHERE id < 9 ORDER BY id LIMIT 5

CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy'); SELECT id, gpt_classify(body, NULL::mood) FROM t
    ORDER BY id

SELECT id, gpt_loss(body), gpt_perplexity(alt), gpt_loss(gpt_generate(body, 3)) FROM t ORDER BY id

SELECT id, (gpt_embed(body))[1:3], md5(gpt_embed(coalesce(alt, ''))::text) FROM t ORDER BY id

SELECT gpt_classify(body, ARRAY['x', 'y']) AS c, count(*), avg(gpt_loss(body)) FROM t GROUP BY 1
    ORDER BY 1

UPDATE t SET alt = gpt_classify(body, ARRAY['x', 'y', 'z']) WHERE gpt_loss(body) < 9;
    SELECT id, alt FROM t ORDER BY id

SELECT id, gpt_loss(body, options => ('{"stride": ' || 20 - id || '}')::jsonb) FROM t ORDER BY id

SELECT * FROM (SELECT gpt_generate(body || coalesce(alt, ''), 2) AS g, row_number() OVER (ORDER BY
    id) AS n FROM t) AS q WHERE n <= 5

SELECT * FROM (SELECT gpt_generate(gpt_generate(body || grp || flag, 2), 2) AS g, rank() OVER
    (PARTITION BY grp ORDER BY id) AS r, id FROM t) AS q WHERE r < 3 ORDER BY id

SELECT * FROM (SELECT gpt_generate(body || coalesce(alt, ''), 2) AS g, row_number() OVER (ORDER BY
    id) AS n, count(*) OVER (PARTITION BY grp ORDER BY id DESC) AS c FROM t) AS q WHERE n <= 20 AND
    c <= 4 ORDER BY n

CREATE INDEX ON t (grp); SET LOCAL enable_hashjoin = off; SET LOCAL enable_sort = off; SET LOCAL
    enable_seqscan = off; SET LOCAL enable_material = off; SELECT a.id, b.id FROM (SELECT * FROM t
    WHERE now() > '2000-01-01' AND gpt_generate(body, 1) <> 'x') AS a FULL JOIN (SELECT * FROM t
    WHERE now() > '2000-01-01' AND gpt_generate(body, 2) LIKE '%a%') AS b ON a.grp = b.grp ORDER BY
    1, 2

SELECT id, gpt_generate(tells(id), 2) FROM t ORDER BY id LIMIT 25

SELECT id, CASE WHEN tells(id) LIKE '%1' THEN gpt_generate(body, 2) END FROM t ORDER BY id

SELECT u.id, q.* FROM u, LATERAL (SELECT t.id AS tid, gpt_generate(t.body || u.word, 2) AS g FROM t
    ORDER BY t.grp DESC, t.id LIMIT CASE WHEN u.id % 3 > 0 THEN u.id % 3 END) AS q ORDER BY 1, 2
