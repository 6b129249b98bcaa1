-- evaluate.sql: measures a demo model on texts held out from its training, greedily.
--
--     psql -f models/demo/evaluate.sql         in the top directory of the source
--
-- Another model than demo: -v model=demo_new.  A few of each set: -v most=20.  It ends with an
-- error where product and fault of held-out names and combinations are right in less than 95 % of
-- the summaries, or in -v bar=0.  Set gpt2.weight_format to 'f32' for the README's figures.
\set ON_ERROR_STOP on
\encoding UTF8
\if :{?model} \else \set model demo \endif
\if :{?most} \else \set most 1000 \endif
\if :{?bar} \else \set bar 95 \endif

CREATE TEMP TABLE demo_tests (
    number int GENERATED ALWAYS AS IDENTITY,
    name text,
    wanted int,
    room int,
    prompt text,
    answer text,
    product text,
    fault text
);
\copy demo_tests (name, wanted, room, prompt, answer, product, fault) FROM PROGRAM 'python3 -B models/demo/generator.py --tests'

CREATE TEMP TABLE demo_answers AS
WITH fitting AS (
    SELECT *, row_number() OVER (PARTITION BY name ORDER BY number) AS place
    FROM demo_tests
    WHERE gpt_count_tokens(prompt, :'model') + room <=
          (SELECT context_length FROM gpt_models WHERE gpt_models.name = :'model')
), answered AS (
    SELECT *, gpt_generate(prompt, room, :'model', temperature => 0, stop => ARRAY[E'\n']) AS made
    FROM fitting
    WHERE place <= least(wanted, :most)
)
SELECT name, number, made = answer AS is_right,
       split_part(made, ': ', 1) = ' ' || product AS product_is_right,
       rtrim(split_part(split_part(made, ': ', 2), ';', 1), '.') = fault AS fault_is_right,
       answer, made
FROM answered;

CREATE TEMP VIEW demo_figures AS
SELECT name, count(*) AS number, round(100 * avg(product_is_right::int), 1) AS product,
       round(100 * avg(fault_is_right::int), 1) AS fault,
       round(100 * avg((product_is_right AND fault_is_right)::int), 1) AS product_and_fault,
       round(100 * avg(is_right::int), 1) AS whole
FROM demo_answers
GROUP BY name
ORDER BY min(demo_answers.number);

\echo 'Summaries: per cent right'
SELECT * FROM demo_figures WHERE fault IS NOT NULL;
\echo 'Other answers: per cent right'
SELECT name, number, whole FROM demo_figures WHERE fault IS NULL;

SELECT product_and_fault < :bar AS misses_bar FROM demo_figures
WHERE name = 'held-out names and combinations' \gset
\if :misses_bar
    DO $$ BEGIN RAISE EXCEPTION 'the model is below the bar'; END $$;
\endif
