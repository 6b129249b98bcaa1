-- train.sql: makes the demo model out of what generator.py writes, with gpt_train.
--
--     psql -f models/demo/train.sql            in the top directory of the source, as a superuser
--
-- `make demo-model` does it in a private server, measures the model and puts it into this folder.
-- Other sizes and names, for trying it out: -v rows=2000 -v model=my_demo -v threads=1
\set ON_ERROR_STOP on
\encoding UTF8
\if :{?rows} \else \set rows 240000 \endif
\if :{?model} \else \set model demo_new \endif
\if :{?threads} \else \set threads 2 \endif
\setenv ROWS :rows

CREATE TEMP TABLE demo_rows (
    number int GENERATED ALWAYS AS IDENTITY,
    prompt text,
    completion text
);
\copy demo_rows (prompt, completion) FROM PROGRAM 'python3 -B models/demo/generator.py --seed 1 --rows $ROWS'

-- Each row is learned once, in epochs => 1: names that come again are learned by heart, not copied.
-- A third of the rows teach text and answer, the others the answer alone: so an answer counts about
-- three times as much as a text.
CALL gpt_train(:'model', $$
    SELECT CASE WHEN number % 3 > 0 THEN prompt ELSE '' END,
           CASE WHEN number % 3 > 0 THEN completion ELSE prompt || completion END
    FROM demo_rows
    ORDER BY number $$,
    tokenizer => 'bpe', vocab_size => 1024,     -- small: copying is learned token by token
    n_layer => 4, n_head => 4, n_embd => 128, context => 512,
    epochs => 1, batch_tokens => 512, schedule => 'linear',
    learning_rate => 0.002, beta2 => 0.98, weight_decay => 0.01, warmup_steps => 100,
    eval_fraction => 0.01, seed => 1, threads => :threads);
