-- gpt_classify, gpt_label_probs, gpt_label_prob, gpt_filter on the demonstration model, whose categories are one of
-- the things that it was trained to say.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS gpt2;
SET gpt2.model = 'demo';
\set categories '{battery,billing,delivery,hardware,praise,safety,software}'
\set text 'Hello, I bought a Wozan printer in May. Since last week it won''t charge any more. Ann'

SELECT gpt_classify(:'text', :'categories'::text[]) AS category;
CREATE TEMP TABLE bodies (body text, category text);
INSERT INTO bodies VALUES
('Hi, Our new Bolt watch is not what we hoped for. Since last month the payment was taken twice. Tom', 'billing'),
('Hello, I have a problem with my Grial iron. Sadly the battery dies far too quickly. Ivan', 'battery'),
('Dear all, We have had a Weeswaus lamp since May. The problem: it goes offline without warning. Zoe', 'software'),
('Hello, My AMZ4EA from May is a problem. I ordered black and got white. Please send me a new one. Sam', 'delivery');
SELECT category, gpt_classify(body, :'categories'::text[]) = category AS right FROM bodies ORDER BY 1;

-- an enum
CREATE TYPE regress_category AS ENUM ('battery', 'billing', 'delivery', 'hardware', 'praise', 'safety');
ALTER TYPE regress_category ADD VALUE 'software' AFTER 'billing';
SELECT pg_typeof(c), c FROM gpt_classify(:'text', NULL::regress_category) AS c;
SELECT gpt_classify(:'text', 'praise'::regress_category) = gpt_classify(:'text', NULL::regress_category)
       AS value_does_not_matter;
SELECT gpt_classify(:'text', enum_range(NULL::regress_category)::text[])
       = gpt_classify(:'text', NULL::regress_category)::text AS same;

-- probabilities: of all labels, in their order, with the sum 1
SELECT array_agg(label ORDER BY place) = :'categories' AS labels, abs(sum(prob) - 1) < 1e-9 AS one,
       bool_and(prob BETWEEN 0 AND 1 AND logprob < 0) AS ranges,
       (array_agg(label ORDER BY prob DESC))[1] = gpt_classify(:'text', :'categories'::text[]) AS best
FROM gpt_label_probs(:'text', :'categories'::text[]) WITH ORDINALITY AS p (label, prob, logprob, place);
-- a label's log-likelihood is that of its tokens behind the template
SELECT bool_and(abs(p.logprob - (SELECT sum(l.logprob)
                                 FROM gpt_logprobs(:'text' || E'\nCategory: ' || p.label) AS l
                                 WHERE l.pos >= gpt_count_tokens(:'text' || E'\nCategory:'))) < 1e-6)
       AS same
FROM gpt_label_probs(:'text', :'categories'::text[]) AS p;
-- calibration: scores are means over tokens, less those of "N/A"
WITH raw AS (
    SELECT t.label, t.logprob / gpt_count_tokens(' ' || t.label) AS score,
           n.logprob / gpt_count_tokens(' ' || t.label) AS none
    FROM gpt_label_probs(:'text', :'categories'::text[]) AS t
    JOIN gpt_label_probs('N/A', :'categories'::text[]) AS n USING (label)),
    sums AS (SELECT sum(exp(score)) AS raw, sum(exp(score - none)) AS calibrated FROM raw)
SELECT bool_and(abs(c.prob - exp(score - none) / sums.calibrated) < 1e-9) AS calibrated,
       bool_and(abs(r.prob - exp(score) / sums.raw) < 1e-9) AS not_calibrated
FROM sums, raw JOIN gpt_label_probs(:'text', :'categories'::text[]) AS c USING (label)
JOIN gpt_label_probs(:'text', :'categories'::text[], options => '{"calibrate": false}') AS r
USING (label);
-- "N/A" itself is nothing
SELECT bool_and(abs(prob - 0.5) < 1e-9) AS even FROM gpt_label_probs('N/A', '{billing,praise}');

-- templates and examples
SELECT gpt_classify('I love it. Five stars!', '{positive,negative}',
                    options => '{"template": "{input}\nSentiment:"}') AS mood;
SELECT array_agg(a.prob) = array_agg(b.prob) AS same_place
FROM gpt_label_probs(:'text', '{battery,praise}', options => '{"template": "{input}\nCategory:"}') AS a
JOIN gpt_label_probs(:'text', '{battery,praise}',
                     options => '{"template": "{input}\nCategory: {label}"}') AS b USING (label);
SELECT array_agg(a.logprob) = array_agg(b.logprob) AS same_prompt
FROM gpt_label_probs('c', '{yes,no}', options => '{"template": "{labels}; {input}: {label}.",
                     "examples": [["a", "no"], ["b", "yes"]]}') AS a
JOIN gpt_label_probs(E'yes, no; a: no.\n\nyes, no; b: yes.\n\nyes, no; c', '{yes,no}',
                     options => '{"template": "{input}: {label}"}') AS b USING (label);

-- min_prob
SELECT gpt_classify(:'text', :'categories'::text[], options => '{"min_prob": 0.1}') IS NOT NULL AS sure,
       gpt_classify('N/A', '{billing,praise}', options => '{"min_prob": 0.51}') IS NULL AS unsure,
       gpt_classify('N/A', NULL::regress_category, options => '{"min_prob": 0.9}') IS NULL AS enum,
       gpt_filter('N/A', 'it is good', options => '{"min_prob": 0.51}') IS NULL AS filter;

-- one label is always right; a long text is cut
SELECT gpt_classify(:'text', '{billing}');
SELECT gpt_classify(repeat(:'text' || ' ', 100), :'categories'::text[]) IS NOT NULL AS cut;

-- gpt_filter
SELECT pg_typeof(f), f IS NOT NULL AS answered FROM gpt_filter(:'text', 'Is it broken?') AS f;
SELECT gpt_filter(:'text', 'Is it broken?') = (p.prob > 0.5) AS same
FROM gpt_label_probs(:'text', '{yes,no}',
                     options => '{"template": "{input}\nQuestion: Is it broken?\nAnswer: {label}"}') AS p
WHERE p.label = 'yes';

-- gpt_label_prob is the first label's row of gpt_label_probs
SELECT gpt_label_prob(:'text', '{battery,praise,billing}') = prob AS same
FROM gpt_label_probs(:'text', '{battery,praise,billing}') WHERE label = 'battery';
SELECT gpt_label_prob(:'text', '{praise,battery}', 'demo', '{"calibrate": false}') = prob AS same
FROM gpt_label_probs(:'text', '{praise,battery}', options => '{"calibrate": false}') WHERE label = 'praise';
SELECT gpt_label_prob(:'text', '{praise}') AS alone, gpt_label_prob(NULL, '{a}') IS NULL AS null_text,
       gpt_label_prob(' ', '{a,b}') IS NULL AS white;

-- nothing to classify
SELECT gpt_classify(NULL, '{a,b}'::text[]) IS NULL AS null_text, gpt_classify(E' \n', '{a,b}'::text[]) IS NULL AS white,
       gpt_classify('', NULL::regress_category) IS NULL AS enum, gpt_filter('', 'x') IS NULL AS filter,
       gpt_filter('x', NULL) IS NULL AS null_condition;
SELECT count(*) FROM gpt_label_probs(NULL, '{a}');
SELECT count(*) FROM gpt_label_probs(' ', '{a}');

-- labels in the database's characters
SELECT label FROM gpt_label_probs('Grüße', '{größer,世界}') ORDER BY label COLLATE "C";

-- bad input
CREATE FUNCTION pg_temp.try(command text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    state text; message text; detail text; hint text;
BEGIN
    EXECUTE command;
    RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT,
        detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    RETURN concat_ws(' | ', state, message, nullif(detail, ''), nullif(hint, ''));
END $$;
CREATE TYPE regress_empty AS ENUM ();
\pset format unaligned
\pset tuples_only on
SELECT pg_temp.try($$SELECT gpt_classify('x', NULL::text[])$$);
SELECT pg_temp.try($$SELECT gpt_classify('x', '{}'::text[])$$);
SELECT pg_temp.try($$SELECT gpt_classify('x', '{{a},{b}}'::text[])$$);
SELECT pg_temp.try($$SELECT gpt_classify('x', '{a,NULL}'::text[])$$);
SELECT pg_temp.try($$SELECT gpt_classify('x', '{a,""}'::text[])$$);
SELECT pg_temp.try($$SELECT gpt_classify('x', '{a,b,a}'::text[])$$);
SELECT pg_temp.try($$SELECT gpt_classify('x', NULL::regress_empty)$$);
SELECT pg_temp.try($$SELECT gpt_classify('x', array_agg(i::text)) FROM generate_series(1, 257) AS i$$);
SELECT pg_temp.try($$SELECT gpt_classify('x', array_agg(i::text)) FROM generate_series(1, 100000) AS i$$);
SELECT pg_temp.try($$SELECT gpt_classify('x', ARRAY['a', repeat('b', 1025)])$$);
SELECT pg_temp.try($$SELECT gpt_classify('x', ARRAY['a', repeat('世', 300)])$$);
SELECT pg_temp.try($$SELECT gpt_classify('x', ARRAY['a', repeat('b', 1025)], options => '{"on_error": "null"}')$$);
SELECT pg_temp.try($$SELECT gpt_filter('x', ' ')$$);
SELECT pg_temp.try($$SELECT gpt_classify('x', '{a,b}'::text[], options => '{"template": "no input"}')$$);
SELECT pg_temp.try($$SELECT gpt_classify('x', '{a,b}'::text[], options => '{"template": "{label}: {input}"}')$$);
SELECT pg_temp.try($$SELECT gpt_classify('x', '{a,b}'::text[], options => '{"min_prob": 1.5}')$$);
SELECT pg_temp.try($$SELECT gpt_classify('x', '{a,b}'::text[], options => '{"calibrate": "no"}')$$);
SELECT pg_temp.try($$SELECT gpt_classify('x', '{a,b}'::text[], options => '{"examples": ["a", "b"]}')$$);
SELECT pg_temp.try($$SELECT gpt_classify('x', '{a,b}'::text[], options => '{"examples": [["a"]]}')$$);
SELECT pg_temp.try($$SELECT gpt_classify('x', '{a,b}'::text[], options => '{"examples": [["a", 1]]}')$$);
SELECT pg_temp.try($$SELECT gpt_classify('x', '{a,b}'::text[],
    options => jsonb_build_object('examples', (SELECT jsonb_agg(array['t', 'a']) FROM generate_series(1, 65))))$$);
SELECT pg_temp.try($$SELECT gpt_classify('x', '{a,b}'::text[],
    options => jsonb_build_object('examples', array[array[repeat('long ', 1000), 'a']]))$$);
SELECT pg_temp.try($$SELECT * FROM gpt_label_probs('x', '{a,b}'::text[], options => '{"min_prob": 0.5}')$$);
SELECT pg_temp.try($$SELECT gpt_classify('x', '{a,b}'::text[], options => '{"max_len": 5}')$$);
SELECT pg_temp.try($$SELECT gpt_label_prob('x', '{}')$$);
SELECT pg_temp.try($$SELECT gpt_label_prob('x', '{a,b}', options => '{"min_prob": 0.5}')$$);
SELECT pg_temp.try($$SELECT gpt_classify('x', '{a,b}'::text[], 'nosuch')$$) LIKE '42704 | %';
