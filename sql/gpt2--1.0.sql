/* gpt2--1.0.sql: what CREATE EXTENSION gpt2 makes.  CREATE only, never OR REPLACE: an object of
 * somebody else's that stands in the way is an error, not a take-over. */

-- complain if script is sourced in psql, rather than via CREATE EXTENSION
\echo Use "CREATE EXTENSION gpt2" to load this file. \quit

-- What runs the model is VOLATILE: a STABLE call with constant arguments would run at plan time,
-- and a subquery that is pulled up would run it twice.  None is STRICT: their defaults are NULL.

-- The planner calls it when it meets a call of a function that names it: it loads the library then,
-- in time for the first statement of a session to keep many rows in flight.
CREATE FUNCTION gpt_support(internal)
RETURNS internal
AS 'MODULE_PATHNAME', 'gpt2_support'
LANGUAGE C STRICT IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION gpt_support(internal)
IS 'tells the planner about the functions that run a model';

---- generation

CREATE FUNCTION gpt_generate(
    prompt text, max_len int DEFAULT NULL, model text DEFAULT NULL,
    temperature float8 DEFAULT NULL, top_k int DEFAULT NULL, top_p float8 DEFAULT NULL,
    seed bigint DEFAULT NULL, stop text[] DEFAULT NULL, options jsonb DEFAULT NULL)
RETURNS text
AS 'MODULE_PATHNAME', 'gpt2_generate'
LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 10000 SUPPORT @extschema@.gpt_support;
COMMENT ON FUNCTION gpt_generate(text, int, text, float8, int, float8, bigint, text[], jsonb)
IS 'continues a prompt with up to max_len new tokens';

CREATE FUNCTION gpt_generate(
    prompt text, max_len int, n int, model text DEFAULT NULL,
    temperature float8 DEFAULT NULL, top_k int DEFAULT NULL, top_p float8 DEFAULT NULL,
    seed bigint DEFAULT NULL, stop text[] DEFAULT NULL, options jsonb DEFAULT NULL)
RETURNS SETOF text
AS 'MODULE_PATHNAME', 'gpt2_generate_rows'
LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 10000 ROWS 5;
COMMENT ON FUNCTION
gpt_generate(text, int, int, text, float8, int, float8, bigint, text[], jsonb)
IS 'n continuations of a prompt, one a row';

CREATE FUNCTION gpt_generate_array(
    prompt text, max_len int, n int, model text DEFAULT NULL,
    temperature float8 DEFAULT NULL, top_k int DEFAULT NULL, top_p float8 DEFAULT NULL,
    seed bigint DEFAULT NULL, stop text[] DEFAULT NULL, options jsonb DEFAULT NULL)
RETURNS text[]
AS 'MODULE_PATHNAME', 'gpt2_generate_array'
LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 10000 SUPPORT @extschema@.gpt_support;
COMMENT ON FUNCTION
gpt_generate_array(text, int, int, text, float8, int, float8, bigint, text[], jsonb)
IS 'n continuations of a prompt as one array';

CREATE FUNCTION gpt_completions(
    prompt text, max_len int DEFAULT NULL, n int DEFAULT 1, model text DEFAULT NULL,
    temperature float8 DEFAULT NULL, top_k int DEFAULT NULL, top_p float8 DEFAULT NULL,
    seed bigint DEFAULT NULL, stop text[] DEFAULT NULL, options jsonb DEFAULT NULL)
RETURNS TABLE (
    seq int, completion text, token_ids int[], logprob float8, finish_reason text,
    seed bigint, prompt_tokens int, cached_tokens int, completion_tokens int,
    elapsed interval, error text)
AS 'MODULE_PATHNAME', 'gpt2_completions'
LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 10000 ROWS 5;
COMMENT ON FUNCTION
gpt_completions(text, int, int, text, float8, int, float8, bigint, text[], jsonb)
IS 'n continuations of a prompt with token ids, log-probability, finish reason, seed and counts';

CREATE FUNCTION gpt_stream(
    prompt text, max_len int DEFAULT NULL, model text DEFAULT NULL,
    temperature float8 DEFAULT NULL, top_k int DEFAULT NULL, top_p float8 DEFAULT NULL,
    seed bigint DEFAULT NULL, stop text[] DEFAULT NULL, options jsonb DEFAULT NULL)
RETURNS TABLE (pos int, token_id int, piece text, logprob float8)
AS 'MODULE_PATHNAME', 'gpt2_stream'
LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 10000 ROWS 50;
COMMENT ON FUNCTION gpt_stream(text, int, text, float8, int, float8, bigint, text[], jsonb)
IS 'the tokens of a continuation, one a row, each as soon as it is made';

---- tasks

CREATE FUNCTION gpt_summarize(
    content text, max_len int DEFAULT NULL, model text DEFAULT NULL, options jsonb DEFAULT NULL)
RETURNS text
AS 'MODULE_PATHNAME', 'gpt2_summarize'
LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 10000 SUPPORT @extschema@.gpt_support;
COMMENT ON FUNCTION gpt_summarize(text, int, text, jsonb)
IS 'summarizes a text with the model''s summarize template';

CREATE FUNCTION gpt_task(
    content text, task text, max_len int DEFAULT NULL, model text DEFAULT NULL,
    options jsonb DEFAULT NULL)
RETURNS text
AS 'MODULE_PATHNAME', 'gpt2_task'
LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 10000 SUPPORT @extschema@.gpt_support;
COMMENT ON FUNCTION gpt_task(text, text, int, text, jsonb)
IS 'what the model makes of a text in the template of this name in its gpt2.json';

CREATE FUNCTION gpt_summarize_agg_add(state internal, content text)
RETURNS internal
AS 'MODULE_PATHNAME', 'gpt2_summarize_agg_add'
LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 100;
COMMENT ON FUNCTION gpt_summarize_agg_add(internal, text)
IS 'transition function of gpt_summarize_agg';

CREATE FUNCTION gpt_summarize_agg_add(state internal, content text, model text)
RETURNS internal
AS 'MODULE_PATHNAME', 'gpt2_summarize_agg_add'
LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 100;
COMMENT ON FUNCTION gpt_summarize_agg_add(internal, text, text)
IS 'transition function of gpt_summarize_agg';

CREATE FUNCTION gpt_summarize_agg_end(state internal)
RETURNS text
AS 'MODULE_PATHNAME', 'gpt2_summarize_agg_end'
LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 10000;
COMMENT ON FUNCTION gpt_summarize_agg_end(internal)
IS 'final function of gpt_summarize_agg';

-- No combine function: the summary of a group is made of its contents in their order.
CREATE AGGREGATE gpt_summarize_agg(content text) (
    SFUNC = @extschema@.gpt_summarize_agg_add, STYPE = internal, SSPACE = 131072,
    FINALFUNC = @extschema@.gpt_summarize_agg_end, FINALFUNC_MODIFY = READ_WRITE,
    PARALLEL = RESTRICTED);
COMMENT ON AGGREGATE gpt_summarize_agg(text)
IS 'summarizes the texts of a group, one a line';

CREATE AGGREGATE gpt_summarize_agg(content text, model text) (
    SFUNC = @extschema@.gpt_summarize_agg_add, STYPE = internal, SSPACE = 131072,
    FINALFUNC = @extschema@.gpt_summarize_agg_end, FINALFUNC_MODIFY = READ_WRITE,
    PARALLEL = RESTRICTED);
COMMENT ON AGGREGATE gpt_summarize_agg(text, text)
IS 'summarizes the texts of a group, one a line, with a model';

CREATE FUNCTION gpt_classify(
    content text, labels text[], model text DEFAULT NULL, options jsonb DEFAULT NULL)
RETURNS text
AS 'MODULE_PATHNAME', 'gpt2_classify'
LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 10000 SUPPORT @extschema@.gpt_support;
COMMENT ON FUNCTION gpt_classify(text, text[], text, jsonb)
IS 'the label that fits a text best, by likelihood';

CREATE FUNCTION gpt_classify(
    content text, like_type anyenum, model text DEFAULT NULL, options jsonb DEFAULT NULL)
RETURNS anyenum
AS 'MODULE_PATHNAME', 'gpt2_classify_enum'
LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 10000 SUPPORT @extschema@.gpt_support;
COMMENT ON FUNCTION gpt_classify(text, anyenum, text, jsonb)
IS 'the value of an enum that fits a text best, by likelihood of its labels';

CREATE FUNCTION gpt_label_probs(
    content text, labels text[], model text DEFAULT NULL, options jsonb DEFAULT NULL)
RETURNS TABLE (label text, prob float8, logprob float8)
AS 'MODULE_PATHNAME', 'gpt2_label_probs'
LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 10000 ROWS 5;
COMMENT ON FUNCTION gpt_label_probs(text, text[], text, jsonb)
IS 'how well each label fits a text: probabilities and log-likelihoods';

CREATE FUNCTION gpt_label_prob(
    content text, labels text[], model text DEFAULT NULL, options jsonb DEFAULT NULL)
RETURNS float8
AS 'MODULE_PATHNAME', 'gpt2_label_prob'
LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 10000 SUPPORT @extschema@.gpt_support;
COMMENT ON FUNCTION gpt_label_prob(text, text[], text, jsonb)
IS 'how well the first label fits a text, compared with the others: its probability';

CREATE FUNCTION gpt_filter(
    content text, condition text, model text DEFAULT NULL, options jsonb DEFAULT NULL)
RETURNS boolean
AS 'MODULE_PATHNAME', 'gpt2_filter'
LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 10000 SUPPORT @extschema@.gpt_support;
COMMENT ON FUNCTION gpt_filter(text, text, text, jsonb)
IS 'whether a condition holds for a text, by the likelihood of yes and no';

---- scores

CREATE FUNCTION gpt_logprobs(
    content text, model text DEFAULT NULL, options jsonb DEFAULT NULL)
RETURNS TABLE (pos int, token_id int, piece text, logprob float8)
AS 'MODULE_PATHNAME', 'gpt2_logprobs'
LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 10000 ROWS 100;
COMMENT ON FUNCTION gpt_logprobs(text, text, jsonb)
IS 'the log-probability of each token of a text';

CREATE FUNCTION gpt_loss(
    content text, model text DEFAULT NULL, options jsonb DEFAULT NULL)
RETURNS float8
AS 'MODULE_PATHNAME', 'gpt2_loss'
LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 10000 SUPPORT @extschema@.gpt_support;
COMMENT ON FUNCTION gpt_loss(text, text, jsonb)
IS 'mean cross-entropy of a text in nats per token';

CREATE FUNCTION gpt_perplexity(
    content text, model text DEFAULT NULL, options jsonb DEFAULT NULL)
RETURNS float8
AS 'MODULE_PATHNAME', 'gpt2_perplexity'
LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 10000 SUPPORT @extschema@.gpt_support;
COMMENT ON FUNCTION gpt_perplexity(text, text, jsonb)
IS 'e to the power of gpt_loss';

-- STABLE, unlike the others, so that ORDER BY e <-> gpt_embed('...') can use an index.
CREATE FUNCTION gpt_embed(
    content text, model text DEFAULT NULL, options jsonb DEFAULT NULL)
RETURNS real[]
AS 'MODULE_PATHNAME', 'gpt2_embed'
LANGUAGE C STABLE PARALLEL RESTRICTED COST 10000 SUPPORT @extschema@.gpt_support;
COMMENT ON FUNCTION gpt_embed(text, text, jsonb)
IS 'mean over a text''s tokens of what the final layer norm gives';

---- tokens

CREATE FUNCTION gpt_tokenize(content text, model text DEFAULT NULL)
RETURNS int[]
AS 'MODULE_PATHNAME', 'gpt2_tokenize'
LANGUAGE C STABLE PARALLEL SAFE COST 100;
COMMENT ON FUNCTION gpt_tokenize(text, text)
IS 'token ids of a text';

CREATE FUNCTION gpt_detokenize(token_ids int[], model text DEFAULT NULL)
RETURNS text
AS 'MODULE_PATHNAME', 'gpt2_detokenize'
LANGUAGE C STABLE PARALLEL SAFE COST 100;
COMMENT ON FUNCTION gpt_detokenize(int[], text)
IS 'text of an array of token ids';

CREATE FUNCTION gpt_count_tokens(content text, model text DEFAULT NULL)
RETURNS int
AS 'MODULE_PATHNAME', 'gpt2_count_tokens'
LANGUAGE C STABLE PARALLEL SAFE COST 100;
COMMENT ON FUNCTION gpt_count_tokens(text, text)
IS 'number of tokens of a text';

---- models and administration

-- Reads folders with subtransactions, which parallel plans do not allow: PARALLEL UNSAFE.
CREATE FUNCTION gpt_models(
    OUT name text, OUT architecture text, OUT parameters bigint, OUT context_length int,
    OUT vocab_size int, OUT tokenizer text, OUT weight_format text, OUT device text,
    OUT state text, OUT bytes bigint, OUT content_hash text, OUT error text,
    OUT loaded_at timestamptz, OUT last_used_at timestamptz, OUT percent int, OUT base text,
    OUT owner text)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'gpt2_models'
LANGUAGE C VOLATILE PARALLEL UNSAFE COST 1000 ROWS 10;
COMMENT ON FUNCTION gpt_models()
IS 'rows of the view gpt_models';

CREATE VIEW gpt_models AS
    SELECT name, architecture, parameters, context_length, vocab_size, tokenizer, weight_format,
           device, state, bytes, content_hash, error, loaded_at, last_used_at, percent,
           base, owner
    FROM @extschema@.gpt_models();
COMMENT ON VIEW gpt_models
IS 'models in the directories of gpt2.model_path, and what the engine has loaded of them';
GRANT SELECT ON gpt_models TO PUBLIC;

-- Reads a folder's roles with a subtransaction: PARALLEL UNSAFE.
CREATE FUNCTION gpt_check_model(
    name text, OUT item text, OUT ok boolean, OUT detail text, OUT hint text)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'gpt2_check_model'
LANGUAGE C VOLATILE PARALLEL UNSAFE COST 1000 ROWS 7;
COMMENT ON FUNCTION gpt_check_model(text)
IS 'what is right and wrong with the files of a model; reads headers only';

CREATE FUNCTION gpt_load_model(
    name text, weight_format text DEFAULT NULL, device text DEFAULT NULL)
RETURNS void
AS 'MODULE_PATHNAME', 'gpt2_load_model'
LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 10000;
COMMENT ON FUNCTION gpt_load_model(text, text, text)
IS 'loads a model now instead of at its first use';
REVOKE EXECUTE ON FUNCTION gpt_load_model(text, text, text) FROM PUBLIC;

CREATE FUNCTION gpt_unload_model(name text)
RETURNS void
AS 'MODULE_PATHNAME', 'gpt2_unload_model'
LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 1000;
COMMENT ON FUNCTION gpt_unload_model(text)
IS 'gives a model''s memory back';
REVOKE EXECUTE ON FUNCTION gpt_unload_model(text) FROM PUBLIC;

CREATE FUNCTION gpt_info(
    OUT version text, OUT arithmetic text, OUT isa text, OUT blas text, OUT cuda_device text,
    OUT cuda_driver text, OUT threads int, OUT supervisor_pid int, OUT engine_pid int,
    OUT started_at timestamptz, OUT restart_pending boolean)
RETURNS record
AS 'MODULE_PATHNAME', 'gpt2_info'
LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 100;
COMMENT ON FUNCTION gpt_info()
IS 'versions, arithmetic identity and processes of the engine; never starts it';

CREATE FUNCTION gpt_engine_counters(
    OUT live_requests int, OUT live_sequences int,
    OUT kv_blocks_used bigint, OUT kv_blocks_total bigint)
RETURNS record
AS 'MODULE_PATHNAME', 'gpt2_engine_counters'
LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 100;
COMMENT ON FUNCTION gpt_engine_counters()
IS 'what is alive in the engine now, for monitoring and tests; never starts it';
REVOKE EXECUTE ON FUNCTION gpt_engine_counters() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION gpt_engine_counters() TO pg_monitor;

CREATE FUNCTION gpt_restart_engine()
RETURNS void
AS 'MODULE_PATHNAME', 'gpt2_restart_engine'
LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 1000;
COMMENT ON FUNCTION gpt_restart_engine()
IS 'replaces a running engine; running queries go on';
REVOKE EXECUTE ON FUNCTION gpt_restart_engine() FROM PUBLIC;

CREATE FUNCTION gpt_stop_engine(purge boolean DEFAULT false)
RETURNS void
AS 'MODULE_PATHNAME', 'gpt2_stop_engine'
LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 1000;
COMMENT ON FUNCTION gpt_stop_engine(boolean)
IS 'ends engine and supervisor until the next request; purge removes packed weights and counters';
REVOKE EXECUTE ON FUNCTION gpt_stop_engine(boolean) FROM PUBLIC;

-- Superusers, and the model's owner: the functions look.
CREATE FUNCTION gpt_grant_model(name text, role text)
RETURNS void
AS 'MODULE_PATHNAME', 'gpt2_grant_model'
LANGUAGE C VOLATILE PARALLEL UNSAFE COST 1000;
COMMENT ON FUNCTION gpt_grant_model(text, text)
IS 'lets members of a role use a model; the first grant takes it from everybody else';

CREATE FUNCTION gpt_revoke_model(name text, role text)
RETURNS void
AS 'MODULE_PATHNAME', 'gpt2_revoke_model'
LANGUAGE C VOLATILE PARALLEL UNSAFE COST 1000;
COMMENT ON FUNCTION gpt_revoke_model(text, text)
IS 'takes a model from a role; the last one leaves it to superusers';

CREATE FUNCTION gpt_reassign_model(name text, role text)
RETURNS void
AS 'MODULE_PATHNAME', 'gpt2_reassign_model'
LANGUAGE C VOLATILE PARALLEL UNSAFE COST 1000;
COMMENT ON FUNCTION gpt_reassign_model(text, text)
IS 'makes a role the owner of a model, as ALTER TABLE OWNER TO does of a table';

CREATE FUNCTION gpt_drop_model(name text)
RETURNS void
AS 'MODULE_PATHNAME', 'gpt2_drop_model'
LANGUAGE C VOLATILE PARALLEL UNSAFE COST 1000;
COMMENT ON FUNCTION gpt_drop_model(text)
IS 'removes a model of the server''s own directory gpt2_models';

---- training

CREATE PROCEDURE gpt_train(
    new_model text, query text, tokenizer text DEFAULT NULL, vocab_size int DEFAULT NULL,
    size text DEFAULT NULL, n_layer int DEFAULT NULL, n_head int DEFAULT NULL,
    n_embd int DEFAULT NULL, context int DEFAULT NULL,
    steps int DEFAULT NULL, epochs float8 DEFAULT NULL, batch_tokens int DEFAULT NULL,
    learning_rate float8 DEFAULT NULL, schedule text DEFAULT NULL, warmup_steps int DEFAULT NULL,
    optimizer text DEFAULT NULL, beta1 float8 DEFAULT NULL, beta2 float8 DEFAULT NULL,
    weight_decay float8 DEFAULT NULL, grad_clip float8 DEFAULT NULL, dropout float8 DEFAULT NULL,
    eval_fraction float8 DEFAULT NULL, eval_every int DEFAULT NULL, patience int DEFAULT NULL,
    seed bigint DEFAULT NULL, threads int DEFAULT NULL, replace boolean DEFAULT false)
AS 'MODULE_PATHNAME', 'gpt2_train'
LANGUAGE C;
COMMENT ON PROCEDURE gpt_train
IS 'trains a new model from nothing on the rows of a query';
REVOKE EXECUTE ON PROCEDURE gpt_train FROM PUBLIC;

CREATE PROCEDURE gpt_finetune(
    base text, query text, new_model text, lora_rank int DEFAULT NULL,
    lora_alpha float8 DEFAULT NULL, merge boolean DEFAULT true,
    steps int DEFAULT NULL, epochs float8 DEFAULT NULL, batch_tokens int DEFAULT NULL,
    learning_rate float8 DEFAULT NULL, schedule text DEFAULT NULL, warmup_steps int DEFAULT NULL,
    optimizer text DEFAULT NULL, beta1 float8 DEFAULT NULL, beta2 float8 DEFAULT NULL,
    weight_decay float8 DEFAULT NULL, grad_clip float8 DEFAULT NULL, dropout float8 DEFAULT NULL,
    eval_fraction float8 DEFAULT NULL, eval_every int DEFAULT NULL, patience int DEFAULT NULL,
    seed bigint DEFAULT NULL, threads int DEFAULT NULL, replace boolean DEFAULT false)
AS 'MODULE_PATHNAME', 'gpt2_finetune'
LANGUAGE C;
COMMENT ON PROCEDURE gpt_finetune
IS 'trains a model that is there on the rows of a query, and makes a new one of it';
REVOKE EXECUTE ON PROCEDURE gpt_finetune FROM PUBLIC;

-- One's own, superusers anybody's: the function looks.
CREATE FUNCTION gpt_drop_training(name text)
RETURNS void
AS 'MODULE_PATHNAME', 'gpt2_drop_training'
LANGUAGE C VOLATILE PARALLEL UNSAFE COST 1000;
COMMENT ON FUNCTION gpt_drop_training(text)
IS 'removes what stopped trainings of a new model have left to be gone on with';

-- Reads a folder's roles with a subtransaction: PARALLEL UNSAFE, and so is the picture of it.
CREATE FUNCTION gpt_training_log(
    model text, OUT step int, OUT loss float8, OUT held_out_loss float8,
    OUT learning_rate float8, OUT tokens bigint, OUT seconds float8)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'gpt2_training_log'
LANGUAGE C VOLATILE PARALLEL UNSAFE COST 100 ROWS 500;
COMMENT ON FUNCTION gpt_training_log(text)
IS 'the losses of a model''s training, as it went on';

-- 640 x 320: steps from x 60 to 620, losses from y 280 (0) up to 30 (the highest).
CREATE FUNCTION gpt_training_svg(model text) RETURNS text
LANGUAGE sql STRICT VOLATILE PARALLEL UNSAFE COST 100 SET search_path = pg_catalog, pg_temp AS $$
    WITH point AS (
        SELECT p.step, CASE WHEN p.loss < 'Infinity' THEN p.loss END AS loss,
               CASE WHEN p.held_out_loss < 'Infinity' THEN p.held_out_loss END AS held_out
        FROM @extschema@.gpt_training_log(model) AS p),
    size AS (
        SELECT greatest(max(step), 1) AS steps, greatest(max(loss), max(held_out), 1e-9) AS top
        FROM point),
    line AS (
        SELECT step, round(60 + 560.0 * step / steps, 1) AS x,
               round((280 - 250 * loss / top)::numeric, 1) AS y,
               round((280 - 250 * held_out / top)::numeric, 1) AS held_out_y
        FROM point, size)
    SELECT format('<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 640 320" fill="none"'
                  ' font-family="sans-serif" font-size="12"><rect width="640" height="320" fill="white"/>'
                  '<path stroke="black" d="M60 20V280H625"/><g fill="black">'
                  '<text x="54" y="34" text-anchor="end">%s</text>'
                  '<text x="54" y="284" text-anchor="end">0</text>'
                  '<text x="620" y="298" text-anchor="end">step %s</text>'
                  '<text x="620" y="18" text-anchor="end">%s</text></g>'
                  '<text x="70" y="18" fill="#4477aa">loss</text>'
                  '<text x="110" y="18" fill="#cc3311">held-out loss</text>'
                  '<polyline stroke="#4477aa" points="%s"/>'
                  '<polyline stroke="#cc3311" points="%s"/></svg>',
                  round(top::numeric, 3), steps,
                  replace(replace(model, '&', '&amp;'), '<', '&lt;'),
                  (SELECT string_agg(x || ',' || y, ' ' ORDER BY step) FROM line),
                  (SELECT string_agg(x || ',' || held_out_y, ' ' ORDER BY step) FROM line))
    FROM size
$$;
COMMENT ON FUNCTION gpt_training_svg(text)
IS 'the losses of a model''s training as a picture';

CREATE FUNCTION gpt_stat_progress_train(
    OUT model text, OUT owner oid, OUT database oid, OUT pid int, OUT state text,
    OUT phase text, OUT rows bigint, OUT step int, OUT steps int, OUT loss float8,
    OUT held_out_loss float8, OUT tokens bigint, OUT tokens_per_second float8,
    OUT started_at timestamptz, OUT updated_at timestamptz, OUT estimated_end timestamptz)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'gpt2_stat_progress_train'
LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 100 ROWS 5;
COMMENT ON FUNCTION gpt_stat_progress_train()
IS 'rows of the view gpt_stat_progress_train';

CREATE VIEW gpt_stat_progress_train AS
    SELECT p.model, pg_catalog.pg_get_userbyid(p.owner) AS usename, d.datname, p.pid, p.state,
           p.phase, p.rows, p.step, p.steps, p.loss, p.held_out_loss, p.tokens,
           p.tokens_per_second, p.started_at, p.updated_at, p.estimated_end
    FROM @extschema@.gpt_stat_progress_train() AS p
    LEFT JOIN pg_catalog.pg_database AS d ON d.oid OPERATOR(pg_catalog.=) p.database;
COMMENT ON VIEW gpt_stat_progress_train
IS 'trainings that run, and those that were stopped and can be gone on with';
GRANT SELECT ON gpt_stat_progress_train TO PUBLIC;

---- jobs

-- Neither SECURITY DEFINER nor SET: a procedure with either cannot commit.
CREATE PROCEDURE gpt_batch(
    source regclass, input text, output text, task text DEFAULT 'summarize',
    max_len int DEFAULT NULL, filter text DEFAULT NULL, batch_size int DEFAULT 256,
    on_error text DEFAULT 'null', error_column text DEFAULT NULL, model text DEFAULT NULL,
    options jsonb DEFAULT NULL, target regclass DEFAULT NULL, key text[] DEFAULT NULL,
    max_rows bigint DEFAULT NULL, time_limit interval DEFAULT NULL,
    retry_errors boolean DEFAULT false, INOUT done bigint DEFAULT NULL,
    INOUT failed bigint DEFAULT NULL, INOUT remaining bigint DEFAULT NULL)
AS 'MODULE_PATHNAME', 'gpt2_job'
LANGUAGE C;
COMMENT ON PROCEDURE gpt_batch(
    regclass, text, text, text, int, text, int, text, text, text, jsonb, regclass, text[],
    bigint, interval, boolean, bigint, bigint, bigint)
IS 'fills a column for all rows that lack it, committing as it goes';

---- watching

CREATE FUNCTION gpt_stat_requests(
    OUT pid int, OUT usename name, OUT datname name, OUT model text, OUT state text,
    OUT prompt_tokens int, OUT generated_tokens int, OUT max_len int,
    OUT queued_at timestamptz, OUT started_at timestamptz)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'gpt2_stat_requests'
LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 100 ROWS 100;
COMMENT ON FUNCTION gpt_stat_requests()
IS 'rows of the view gpt_stat_requests';

CREATE VIEW gpt_stat_requests AS
    SELECT pid, usename, datname, model, state, prompt_tokens, generated_tokens, max_len,
           queued_at, started_at
    FROM @extschema@.gpt_stat_requests();
COMMENT ON VIEW gpt_stat_requests
IS 'sequences that the engine is working on or that wait for it';
GRANT SELECT ON gpt_stat_requests TO PUBLIC;

CREATE FUNCTION gpt_stat_usage(
    OUT month date, OUT role name, OUT database name, OUT model text, OUT calls bigint,
    OUT sequences bigint, OUT prompt_tokens bigint, OUT cached_tokens bigint,
    OUT completion_tokens bigint, OUT result_hits bigint, OUT truncated bigint,
    OUT errors bigint, OUT cancelled bigint, OUT queue_time interval, OUT compute_time interval,
    OUT cost float8, OUT price_per_million_tokens float8)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'gpt2_stat_usage'
LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 100 ROWS 100;
COMMENT ON FUNCTION gpt_stat_usage()
IS 'rows of the view gpt_stat_usage';

CREATE VIEW gpt_stat_usage AS
    SELECT month, role, database, model, calls, sequences, prompt_tokens, cached_tokens,
           completion_tokens, result_hits, truncated, errors, cancelled, queue_time,
           compute_time, cost, price_per_million_tokens
    FROM @extschema@.gpt_stat_usage();
COMMENT ON VIEW gpt_stat_usage
IS 'what each role has used in each month, by database and model';
GRANT SELECT ON gpt_stat_usage TO PUBLIC;

CREATE FUNCTION gpt_stat_engine(
    OUT model text, OUT weight_format text, OUT steps bigint, OUT mean_batch_size float8,
    OUT tokens_per_second float8, OUT tokens_per_second_total float8,
    OUT prompt_tokens bigint, OUT completion_tokens bigint, OUT running int, OUT queued int,
    OUT kv_blocks_used bigint, OUT kv_blocks_cached bigint, OUT kv_blocks_total bigint,
    OUT prefix_hit_ratio float8, OUT preemptions bigint, OUT bytes bigint,
    OUT drafted_tokens bigint, OUT draft_hit_ratio float8)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'gpt2_stat_engine'
LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 100 ROWS 10;
COMMENT ON FUNCTION gpt_stat_engine()
IS 'rows of the view gpt_stat_engine';

CREATE VIEW gpt_stat_engine AS
    SELECT model, weight_format, steps, mean_batch_size, tokens_per_second,
           tokens_per_second_total, prompt_tokens, completion_tokens, running, queued,
           kv_blocks_used, kv_blocks_cached, kv_blocks_total, prefix_hit_ratio, preemptions,
           bytes, drafted_tokens, draft_hit_ratio
    FROM @extschema@.gpt_stat_engine();
COMMENT ON VIEW gpt_stat_engine
IS 'loaded models at work';
GRANT SELECT ON gpt_stat_engine TO PUBLIC;

CREATE FUNCTION gpt_stat_progress_batch(
    OUT pid int, OUT usename name, OUT datname name, OUT command text, OUT relid oid,
    OUT rows_done bigint, OUT rows_failed bigint, OUT rows_total bigint, OUT tokens bigint,
    OUT started_at timestamptz, OUT rows_per_second float8, OUT estimated_end timestamptz)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'gpt2_stat_progress_batch'
LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 100 ROWS 10;
COMMENT ON FUNCTION gpt_stat_progress_batch()
IS 'rows of the view gpt_stat_progress_batch';

CREATE VIEW gpt_stat_progress_batch AS
    SELECT pid, usename, datname, command, relid, rows_done, rows_failed, rows_total, tokens,
           started_at, rows_per_second, estimated_end
    FROM @extschema@.gpt_stat_progress_batch();
COMMENT ON VIEW gpt_stat_progress_batch
IS 'how far gpt_batch and statements with a GPT Batch node are';
GRANT SELECT ON gpt_stat_progress_batch TO PUBLIC;

CREATE FUNCTION gpt_stat_reset()
RETURNS void
AS 'MODULE_PATHNAME', 'gpt2_stat_reset'
LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 100;
COMMENT ON FUNCTION gpt_stat_reset()
IS 'sets the counters of gpt_stat_usage to zero';
REVOKE EXECUTE ON FUNCTION gpt_stat_reset() FROM PUBLIC;
