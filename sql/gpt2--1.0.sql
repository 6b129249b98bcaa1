/* gpt2--1.0.sql: what CREATE EXTENSION gpt2 makes.  CREATE only, never OR REPLACE: an object of
 * somebody else's that stands in the way is an error, not a take-over. */

-- complain if script is sourced in psql, rather than via CREATE EXTENSION
\echo Use "CREATE EXTENSION gpt2" to load this file. \quit

-- What runs the model is VOLATILE: a STABLE call with constant arguments would run at plan time,
-- and a subquery that is pulled up would run it twice.  None is STRICT: their defaults are NULL.

---- generation

CREATE FUNCTION gpt_generate(
    prompt text, max_len int DEFAULT NULL, model text DEFAULT NULL,
    temperature float8 DEFAULT NULL, top_k int DEFAULT NULL, top_p float8 DEFAULT NULL,
    seed bigint DEFAULT NULL, stop text[] DEFAULT NULL, options jsonb DEFAULT NULL)
RETURNS text
AS 'MODULE_PATHNAME', 'gpt2_generate'
LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 10000;
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
LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 10000;
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
LANGUAGE C VOLATILE PARALLEL RESTRICTED COST 10000;
COMMENT ON FUNCTION gpt_summarize(text, int, text, jsonb)
IS 'summarizes a text with the model''s summarize template';

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
    OUT loaded_at timestamptz, OUT last_used_at timestamptz, OUT percent int)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'gpt2_models'
LANGUAGE C VOLATILE PARALLEL UNSAFE COST 1000 ROWS 10;
COMMENT ON FUNCTION gpt_models()
IS 'rows of the view gpt_models';

CREATE VIEW gpt_models AS
    SELECT name, architecture, parameters, context_length, vocab_size, tokenizer, weight_format,
           device, state, bytes, content_hash, error, loaded_at, last_used_at, percent
    FROM @extschema@.gpt_models();
COMMENT ON VIEW gpt_models
IS 'models in the directories of gpt2.model_path, and what the engine has loaded of them';
GRANT SELECT ON gpt_models TO PUBLIC;

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
