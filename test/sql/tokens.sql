-- gpt_tokenize, gpt_detokenize, gpt_count_tokens.  Ids change with the demonstration model; here
-- are their properties.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS gpt2;
SET gpt2.model = 'demo';

SELECT gpt_tokenize(NULL) IS NULL AS ids, gpt_detokenize(NULL) IS NULL AS text,
       gpt_count_tokens(NULL) IS NULL AS count;
SELECT gpt_tokenize(''), gpt_detokenize('{}'), gpt_count_tokens('');

-- what goes in comes out
CREATE TEMP TABLE texts (id int, t text);
INSERT INTO texts VALUES
(1, 'My printer won''t print.'), (2, E'  two\n\nlines\t and   spaces '), (3, 'naïve café – “quoted”'),
(4, '这是一个关于大模型在市场上降价趋势的文章。'), (5, 'emoji 🐘 and 👩‍👩‍👧'), (6, '<|endoftext|>'),
(7, repeat('a', 3000)), (8, E'\u00a0\u3000\ufeff');
SELECT id, gpt_detokenize(gpt_tokenize(t)) = t AS same,
       cardinality(gpt_tokenize(t)) = gpt_count_tokens(t) AS counted,
       gpt_count_tokens(t) BETWEEN 1 AND octet_length(t) AS plausible
FROM texts ORDER BY id;

-- concatenation of pieces, and a cut inside a character
SELECT string_agg(gpt_detokenize(ARRAY[id]), '' ORDER BY i) AS pieces
FROM unnest(gpt_tokenize('My printer is broken.')) WITH ORDINALITY AS u (id, i);
SELECT ids[1:cardinality(ids) - 1] <> ids AS shorter,
       gpt_detokenize(ids[1:cardinality(ids) - 1]) AS incomplete_bytes_are_lost
FROM gpt_tokenize('x🐘') AS ids;

-- a special token is never made of ordinary text
SELECT gpt_count_tokens('<|endoftext|>') > 1 AS several;

-- usable in a parallel plan and in an index-friendly way: STABLE, PARALLEL SAFE
SELECT p.proname, p.provolatile, p.proparallel, p.proisstrict, p.procost, p.prorows
FROM pg_proc AS p
JOIN pg_depend AS d ON d.objid = p.oid AND d.classid = 'pg_proc'::regclass AND d.deptype = 'e'
JOIN pg_extension AS e ON e.oid = d.refobjid AND e.extname = 'gpt2'
ORDER BY 1, p.oid;

-- arrays with other bounds
SELECT gpt_detokenize('[5:6]={1,2}'::int[]) = gpt_detokenize('{1,2}') AS bounds;
