-- The tables and functions that the statements of batch_shapes.sql and BatchStatements.pm use.
CREATE TABLE t (id int PRIMARY KEY, grp int, body text, alt text, flag boolean);
INSERT INTO t SELECT i, i % 4,
    CASE WHEN i % 7 > 0 THEN
        (ARRAY['My printer', 'I bought', 'The kettle', 'Dear', 'Hello'])[1 + i % 5]
        || repeat(' x', i % 3) END,
    CASE WHEN i % 3 = 0 THEN 'alt ' || i END, i % 2 = 0
FROM generate_series(1, 40) AS i;
CREATE TABLE u (id int, word text);
INSERT INTO u SELECT i, 'word ' || i FROM generate_series(1, 12) AS i;

-- partitions whose columns have different numbers
CREATE TABLE part (id int, body text) PARTITION BY RANGE (id);
CREATE TABLE part1 PARTITION OF part FOR VALUES FROM (0) TO (10);
CREATE TABLE part2 (body text, extra int, id int);
ALTER TABLE part2 DROP COLUMN extra;
ALTER TABLE part ATTACH PARTITION part2 FOR VALUES FROM (10) TO (100);
INSERT INTO part SELECT id, coalesce(body, 'none') FROM t WHERE id < 30;

CREATE VIEW v AS SELECT id, grp, gpt_generate(body, 3) AS g FROM t;
CREATE TABLE sink (id int, g text);
CREATE TABLE narrow (id int PRIMARY KEY, g varchar(4));
CREATE SEQUENCE s;

CREATE FUNCTION one(text) RETURNS text LANGUAGE sql AS 'SELECT gpt_generate($1, 3)';
CREATE FUNCTION many() RETURNS SETOF text LANGUAGE sql
AS 'SELECT gpt_generate(body, 3) FROM t ORDER BY id';
CREATE FUNCTION pl(n int) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    r record;
    i int := 0;
BEGIN
    FOR r IN SELECT id, gpt_generate(body, 3) AS g FROM t ORDER BY id LOOP
        i := i + 1;
        RETURN NEXT r.id || ':' || coalesce(r.g, '-');
        EXIT WHEN i >= n;
    END LOOP;
END $$;
CREATE FUNCTION fails_at(i int, n int) RETURNS text LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF i = n THEN
        RAISE EXCEPTION 'row %', i USING ERRCODE = 'P1234';
    END IF;
    RETURN 'row ' || i;
END $$;
CREATE FUNCTION tells(i int) RETURNS text LANGUAGE plpgsql STABLE AS $$
BEGIN
    RAISE NOTICE 'row %', i;
    IF i % 10 = 0 THEN
        RAISE WARNING 'row % too', i;
    END IF;
    RETURN 'row ' || i;
END $$;
CREATE FUNCTION caught(sql text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    r text;
BEGIN
    FOR r IN EXECUTE sql LOOP
        RETURN NEXT r;
    END LOOP;
EXCEPTION WHEN OTHERS THEN
    RETURN NEXT 'caught ' || SQLSTATE || ' ' || SQLERRM;
END $$;
ANALYZE;
