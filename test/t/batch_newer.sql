-- More statements of 033_batch_same.pl, for servers from the version on that stands in front of them;
-- there they give no syntax error.

/* 14 */ CREATE FUNCTION b(x text) RETURNS text RETURN gpt_generate(x, 1); SELECT id, b(body), b(b(body)) FROM t

/* 14 */ WITH RECURSIVE r AS (SELECT id, gpt_generate(body, 1) AS g FROM t WHERE id < 3 UNION ALL SELECT t.id, gpt_generate(g || t.body, 1) FROM r JOIN t ON t.id = r.id + 5) SEARCH DEPTH FIRST BY id, g SET o CYCLE g SET again USING path SELECT * FROM r ORDER BY o

/* 14 */ SELECT grp, body, count(gpt_generate(body, 1)), gpt_generate(body, 2) FROM t GROUP BY DISTINCT ROLLUP (grp, body), GROUPING SETS ((body), ()) ORDER BY 1, 2

/* 14 */ SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off; CREATE INDEX ON u (grp); SET LOCAL enable_seqscan = off; SELECT t.id, gpt_generate(t.body || u.name, 2) FROM t JOIN u ON u.grp = t.grp WHERE gpt_generate(u.name, 1) <> t.body ORDER BY 1, 2

/* 15 */ CREATE TABLE made (id int, g text); CREATE UNIQUE INDEX ON made (g) NULLS NOT DISTINCT; INSERT INTO made SELECT id, gpt_generate(body, 1) FROM t ON CONFLICT (g) DO NOTHING RETURNING id, gpt_generate(g, 1)

/* 15 */ MERGE INTO p USING (SELECT id, gpt_generate(body, 1) AS g FROM t WHERE id > 15 AND id < 21) AS w ON p.id = w.id WHEN MATCHED AND g = gpt_generate(p.body, 1) THEN UPDATE SET id = p.id - 12, body = gpt_generate(g, 1) WHEN MATCHED THEN DO NOTHING; SELECT tableoid::regclass, * FROM p ORDER BY 1, 2, 3

/* 16 */ SELECT id, JSON_OBJECT('a': gpt_generate(body, 1), 'b': s ABSENT ON NULL), JSON_ARRAY(gpt_generate(body, 1), gpt_generate(body, 2) NULL ON NULL), gpt_generate(body, 2) IS JSON FROM t

/* 16 */ SELECT grp, JSON_ARRAYAGG(gpt_generate(body, 1) ORDER BY id), JSON_OBJECTAGG(id: gpt_generate(body, 2) RETURNING jsonb), any_value(gpt_generate(body, 1)) FROM t GROUP BY grp ORDER BY grp

/* 16 */ SELECT grp, string_agg(gpt_generate(body, 2), ',' ORDER BY gpt_generate(body, 1), id DESC), string_agg(DISTINCT gpt_generate(body, 1), ','), array_agg(id ORDER BY id) FROM t GROUP BY grp

/* 16 */ SET LOCAL enable_hashjoin = off; SELECT t.id, u.name, gpt_generate(coalesce(t.body, u.name), 1) FROM u RIGHT JOIN t ON t.grp = u.grp AND gpt_generate(u.name, 1) <> t.body WHERE u.name IS NULL OR t.id < 9 ORDER BY 1, 2

/* 17 */ MERGE INTO t USING (SELECT grp, gpt_generate(name, 2) AS g FROM u WHERE name <> 'deux') AS w ON t.grp = w.grp AND t.id < 9 WHEN MATCHED AND gpt_generate(t.body, 1) <> ':' THEN UPDATE SET s = gpt_generate(g, 1) WHEN MATCHED THEN DELETE WHEN NOT MATCHED BY TARGET AND gpt_generate(g, 1) <> '' THEN INSERT VALUES (100, 1, g, gpt_generate(g, 1)) WHEN NOT MATCHED BY SOURCE AND gpt_generate(t.body, 2) LIKE '%a%' THEN UPDATE SET s = gpt_generate(t.body, 1) WHEN NOT MATCHED BY SOURCE THEN DO NOTHING RETURNING merge_action(), t.id, gpt_generate(t.s, 1), w.g; SELECT * FROM t ORDER BY id

/* 17 */ WITH m AS (MERGE INTO t USING u ON t.grp = u.grp AND u.name <> 'deux' WHEN MATCHED THEN UPDATE SET s = gpt_generate(u.name, 1) RETURNING merge_action() AS a, t.*) SELECT id, a, gpt_generate(s || body, 1) FROM m ORDER BY id

/* 17 */ SELECT id, j.* FROM t, JSON_TABLE(jsonb_build_array(gpt_generate(body, 1), gpt_generate(body, 2)), '$[*]' COLUMNS (n FOR ORDINALITY, a text PATH '$', b int PATH '$' DEFAULT 7 ON ERROR)) AS j

/* 17 */ SELECT j.a, gpt_generate(j.a, 1), gpt_generate(j.b, 1) FROM JSON_TABLE('[{"a": "The", "b": ["x", "A"]}, {"a": "My", "b": []}]', '$[*]' COLUMNS (a text PATH '$.a', NESTED PATH '$.b[*]' COLUMNS (b text PATH '$'))) AS j WHERE gpt_generate(j.a, 1) <> 'x'

/* 17 */ SELECT id, JSON_VALUE(to_jsonb(gpt_generate(body, 1)), '$' RETURNING int DEFAULT 7 ON ERROR), JSON_VALUE(jsonb_build_object('b', body), '$.a' DEFAULT gpt_generate('The', 1) ON EMPTY), JSON_QUERY(jsonb_build_object('a', gpt_generate(body, 1)), '$.a' WITH WRAPPER), JSON_EXISTS(to_jsonb(body), '$ ? (@ starts with $x)' PASSING gpt_generate(body, 1) AS x), gpt_generate(JSON_VALUE(to_jsonb(body), '$'), 1), JSON_SERIALIZE(JSON(JSON_SCALAR(gpt_generate(body, 1)))) FROM t

/* 17 */ SELECT JSON_VALUE(to_jsonb(gpt_generate(body, 1)), '$.a' RETURNING int ERROR ON EMPTY ERROR ON ERROR) FROM t

/* 17 */ SET LOCAL enable_hashagg = off; SELECT gpt_generate(body, 1), grp FROM t UNION SELECT gpt_generate(name, 1), grp FROM u UNION ALL SELECT name, gpt_count_tokens(gpt_generate(name, 2)) FROM u ORDER BY 1, 2 LIMIT 12

/* 17 */ PREPARE q(int) AS SELECT id, gpt_generate(body) FROM p WHERE id = $1 OR id = (SELECT max($1) + 10); SET LOCAL plan_cache_mode = force_generic_plan; EXECUTE q(3); CREATE TABLE p3 PARTITION OF p FOR VALUES FROM (21) TO (31); INSERT INTO p VALUES (23, 'The'); EXECUTE q(13); EXECUTE q(3)

/* 18 */ UPDATE t SET s = gpt_generate(body, 1), body = s WHERE id < 12 AND gpt_generate(body, 2) <> '' RETURNING id, old.body, new.s, gpt_generate(old.body, 1) = new.s, gpt_generate(new.s || new.id, 1), old, new

/* 18 */ WITH c AS (DELETE FROM t WHERE gpt_generate(body, 2) LIKE '%a%' RETURNING WITH (OLD AS o, NEW AS n) o.id, o.body, n.s, gpt_generate(o.body, 1) AS g) SELECT id, n, gpt_generate(body || g, 1) FROM (SELECT id, s AS n, body, g FROM c) AS q ORDER BY id

/* 18 */ INSERT INTO t (id, body) SELECT id + 25, gpt_generate(body, 1) FROM t WHERE id < 9 ON CONFLICT (id) DO UPDATE SET s = gpt_generate(excluded.body, 1) RETURNING id, old.id, old.body, new.s, gpt_generate(old.body, 1), gpt_generate(new.body || new.id, 1)

/* 18 */ MERGE INTO t USING (SELECT * FROM u WHERE name <> 'deux') AS u ON t.grp = u.grp AND t.id < 9 WHEN MATCHED AND t.id < 3 THEN DELETE WHEN MATCHED THEN UPDATE SET body = gpt_generate(u.name, 2) WHEN NOT MATCHED THEN INSERT VALUES (100, 1, gpt_generate(u.name, 1), '') RETURNING merge_action(), old.id, new.id, gpt_generate(old.body, 1), gpt_generate(new.body, 1)

/* 18 */ CREATE TABLE made (id int, body text, b text GENERATED ALWAYS AS (upper(left(body, 8))) VIRTUAL); INSERT INTO made SELECT id, gpt_generate(body, 1) FROM t; SELECT id, b, gpt_generate(b, 1) FROM made WHERE gpt_generate(b || id, 1) <> b; UPDATE made SET body = gpt_generate(b, 1) WHERE b <> gpt_generate(b, 1) RETURNING old.b, new.b, gpt_generate(new.b, 1); SELECT b, count(*), gpt_generate(b, 1) FROM made GROUP BY b ORDER BY b; SELECT a.id, gpt_generate(c.b, 1) FROM made AS a LEFT JOIN made AS c ON c.id = a.id + 1 ORDER BY 1

/* 18 */ CREATE TABLE made (id int, b text GENERATED ALWAYS AS (gpt_generate('The' || id, 1)) VIRTUAL)

/* 18 */ CREATE TABLE made (id int4range, span daterange, g text, PRIMARY KEY (id, span WITHOUT OVERLAPS)); INSERT INTO made SELECT int4range(id, id + 1), daterange('2026-01-01', '2026-02-01'), gpt_generate(body, 1) FROM t; UPDATE made SET g = gpt_generate(g, 1) WHERE span @> date '2026-01-05' RETURNING id, old.g, new.g; INSERT INTO made SELECT int4range(id, id + 1), daterange('2026-01-09', NULL), gpt_generate(body, 1) FROM t

/* 18 */ SELECT a.id, gpt_generate(b.body, 1), gpt_generate(a.body, 2) FROM t AS a JOIN t AS b USING (id) WHERE gpt_generate(b.body, 1) <> a.s OR a.s IS NULL

/* 18 */ SELECT id FROM t WHERE gpt_generate(body, 1) IN (VALUES (':'), ('x'), (gpt_generate('The', 1))) OR id = 3 OR id = 4 OR id = 5

/* 18 */ SELECT grp, gpt_generate(body, 1) AS g, gpt_generate('The ' || grp, 1), upper(gpt_generate(body, 1)), grouping(gpt_generate(body, 1)), sum(grp) OVER (ORDER BY grp, gpt_generate(body, 1) ROWS UNBOUNDED PRECEDING), count(*) FROM t GROUP BY GROUPING SETS ((grp, gpt_generate(body, 1)), (gpt_generate(body, 1)), (grp), ()) HAVING gpt_generate(body, 1) IS DISTINCT FROM 'x' ORDER BY 1, 2

/* 18 */ SELECT gpt_generate(w || 'x', 1), w FROM (SELECT upper(body) AS w, id % 2 AS odd FROM t GROUP BY CUBE (upper(body), id % 2)) AS q WHERE w IS NOT NULL ORDER BY 2, 1

/* 18 */ SELECT gpt_generate(body, 1), (SELECT gpt_generate(t.body || max(u.name), 1) FROM u WHERE u.grp = min(t.grp)) FROM t GROUP BY t.id ORDER BY t.id

/* 18 */ SELECT array_sort(ARRAY[gpt_generate(body, 1), gpt_generate(body, 2)]), casefold(gpt_generate(body, 1)), gpt_generate(reverse(body), 1) FROM t
