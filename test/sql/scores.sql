-- gpt_logprobs, gpt_loss, gpt_perplexity, gpt_embed on the demonstration model: properties, and bad
-- input.  Values are compared with transformers' elsewhere.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS gpt2;
SET gpt2.model = 'demo';
\set text 'I bought a new printer in May. Since last week it leaks water.'

-- tokens: those of the tokenizer, in order, whose pieces are the text
SELECT array_agg(token_id ORDER BY pos) = gpt_tokenize(:'text') AS same_tokens,
       string_agg(piece, '' ORDER BY pos) = :'text' AS same_text,
       min(pos) AS first, max(pos) - count(*) AS last,
       count(*) - count(logprob) AS without, bool_and(logprob < 0) AS negative
FROM gpt_logprobs(:'text');
-- characters of several tokens come whole
SELECT string_agg(piece, '' ORDER BY pos) FROM gpt_logprobs('Grüße, 世界');
-- a start token gives the first one its score
SELECT count(*) = gpt_count_tokens(:'text') AS same_tokens, count(*) = count(logprob) AS all_scored
FROM gpt_logprobs(:'text', options => '{"add_start": true}');

-- loss and perplexity are those of the tokens
SELECT abs(gpt_loss(:'text') + avg(logprob)) < 1e-12 AS loss,
       abs(ln(gpt_perplexity(:'text')) + avg(logprob)) < 1e-12 AS perplexity
FROM gpt_logprobs(:'text');
-- what a greedy text says of itself is what its tokens have
SELECT abs(c.logprob - (SELECT sum(l.logprob) FROM gpt_logprobs(:'text' || c.completion) AS l
                        WHERE l.pos >= gpt_count_tokens(:'text'))) < 1e-6 AS same_logprob
FROM gpt_completions(:'text', 8) AS c
WHERE gpt_tokenize(:'text' || c.completion) = gpt_tokenize(:'text') || c.token_ids;
-- words in their order are likelier than shuffled ones
SELECT gpt_loss(:'text') < gpt_loss('leaks since May. water it a printer last bought new I week in')
       AS order_matters;

-- nothing to score
SELECT gpt_loss(NULL) IS NULL AS null_text, gpt_loss('') IS NULL AS empty,
       gpt_loss('.') IS NULL AS one_token, gpt_perplexity('') IS NULL AS perplexity,
       gpt_loss('.', options => '{"add_start": true}') > 0 AS one_token_with_start;
SELECT count(*) FROM gpt_logprobs(NULL);
SELECT count(*) FROM gpt_logprobs('');
SELECT pos, piece, logprob FROM gpt_logprobs('.');

-- longer than the context: windows; all tokens but the first are scored once
CREATE TEMP TABLE long AS SELECT repeat(:'text' || ' ', 60) AS t;
SELECT gpt_count_tokens(t) > 512 AS long,
       (SELECT count(logprob) FROM gpt_logprobs(t)) = gpt_count_tokens(t) - 1 AS all_scored,
       abs(gpt_loss(t) + (SELECT avg(logprob) FROM gpt_logprobs(t))) < 1e-9 AS loss,
       gpt_loss(t) = gpt_loss(t, options => '{"stride": 256}') AS default_stride,
       gpt_loss(t) <> gpt_loss(t, options => '{"stride": 64}') AS other_stride
FROM long;
-- a window's scores are those of its text alone
SELECT bool_and(a.logprob = b.logprob) AS same
FROM long, gpt_logprobs(t, options => '{"stride": 300}') AS a,
     gpt_logprobs(gpt_detokenize((gpt_tokenize(t))[301:812])) AS b
WHERE a.pos BETWEEN 512 AND 811 AND b.pos = a.pos - 300
HAVING count(*) = 300;

-- embeddings: of the model's width, the same each time, near for what is near
SELECT pg_typeof(e), cardinality(e), e = gpt_embed(:'text') AS again,
       e = gpt_embed(:'text', options => '{"cache": false}') AS uncached
FROM gpt_embed(:'text') AS e;
SELECT gpt_embed(NULL) IS NULL AS null_text, gpt_embed('') IS NULL AS empty,
       gpt_embed(E' \n\t') IS NULL AS white;
CREATE FUNCTION pg_temp.cosine(a real[], b real[]) RETURNS float8 LANGUAGE sql AS
$$ SELECT sum(x * y) / sqrt(sum(x * x) * sum(y * y)) FROM unnest(a, b) AS u(x, y) $$;
SELECT abs(pg_temp.cosine(e, e) - 1) < 1e-6 AS itself,
       pg_temp.cosine(e, gpt_embed('I bought a new kettle in May. Since last week it leaks water.'))
       > pg_temp.cosine(e, gpt_embed('Five stars!')) AS nearer
FROM gpt_embed(:'text') AS e;
SELECT cardinality(gpt_embed(t)) FROM long;
SELECT provolatile FROM pg_proc WHERE proname = 'gpt_embed';

-- row by row
SELECT count(*) FROM generate_series(1, 3) AS i WHERE gpt_loss('printer ' || i) > 0;

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
\pset format unaligned
\pset tuples_only on
SELECT pg_temp.try($$SELECT gpt_loss('x y', options => '{"stride": 0}')$$);
SELECT pg_temp.try($$SELECT gpt_loss('x y', options => '{"stride": 512}')$$);
SELECT pg_temp.try($$SELECT gpt_loss('x y', options => '{"stride": 1.5}')$$);
SELECT pg_temp.try($$SELECT gpt_perplexity('x y', options => '{"add_start": 1}')$$);
SELECT pg_temp.try($$SELECT gpt_loss('x y', options => '{"stop": "x"}')$$);
SELECT pg_temp.try($$SELECT gpt_loss('x y', options => '[]')$$);
SELECT pg_temp.try($$SELECT gpt_embed('x y', options => '{"stride": 5}')$$);
SELECT pg_temp.try($$SELECT gpt_generate('x y', options => '{"stride": 5}')$$);
SELECT pg_temp.try($$SELECT * FROM gpt_logprobs('x', 'nosuch')$$) LIKE '42704 | %';
SELECT pg_temp.try($$SELECT gpt_embed('x', '../demo')$$) LIKE '42602 | %';
SELECT pg_temp.try($$SELECT gpt_loss(repeat('x ', 1100000))$$);
\pset format aligned
\pset tuples_only off
SET gpt2.max_tokens_per_call = 5;
SELECT pg_temp.try($$SELECT gpt_loss('one two three four five six')$$) LIKE '53400 | %' AS limited,
       gpt_loss('it is') > 0 AS allowed;
RESET gpt2.max_tokens_per_call;
