-- The session's settings as defaults of arguments, and the NOTICE about the demonstration model.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS gpt2;
SELECT length(gpt_generate('The', 1)) >= 0 AS loaded;
RESET client_min_messages;

-- the NOTICE comes once a session, and only where the model was never set
\c -
SELECT gpt_count_tokens('') AS first;
SELECT gpt_count_tokens('') AS second;
\c -
SELECT gpt_count_tokens('', model => 'demo') AS named;
SET gpt2.model = 'demo';
SELECT gpt_count_tokens('') AS set;
RESET gpt2.model;
SELECT gpt_count_tokens('') AS reset;
SET client_min_messages = warning;

SELECT name, setting, vartype FROM pg_settings
WHERE name LIKE 'gpt2.%' AND context = 'user' ORDER BY name;

-- max_len
SET gpt2.max_len = 3;
SELECT gpt_generate('The') = gpt_generate('The', 3) AS max_len,
       gpt_generate('The', 5) = gpt_generate('The', max_len => 5) AS argument,
       gpt_summarize('The') = gpt_summarize('The', 3) AS summarize;
RESET gpt2.max_len;
SELECT gpt_generate('The') = gpt_generate('The', 50) AS default_is_50;

-- model
SET gpt2.model = 'no such model';
\set VERBOSITY sqlstate
SELECT gpt_generate('The', 1);
SELECT gpt_count_tokens('The');
\set VERBOSITY default
SELECT length(gpt_generate('The', 1, model => 'demo')) >= 0 AS argument;
RESET gpt2.model;

-- temperature, top_k, top_p; the argument wins
SET gpt2.temperature = 1;
SELECT seed IS NOT NULL AS sampled FROM gpt_completions('The', 1);
SELECT seed IS NOT NULL AS sampled FROM gpt_completions('The', 1, temperature => 0);
SELECT gpt_generate('The', 8, seed => 1) = gpt_generate('The', 8, temperature => 1, seed => 1)
       AS temperature;
SET gpt2.top_k = 1;
SELECT gpt_generate('The', 8) = gpt_generate('The', 8, temperature => 0) AS top_k_1_is_greedy;
SET gpt2.top_k = 0;
SET gpt2.top_p = 1e-9;
SELECT gpt_generate('The', 8) = gpt_generate('The', 8, temperature => 0) AS top_p_is_greedy;
-- tasks stay greedy
RESET gpt2.top_p;
SELECT gpt_summarize('The printer', 8) = gpt_summarize('The printer', 8) AS summarize;
SET gpt2.temperature = 0;
\set VERBOSITY sqlstate
SELECT gpt_generate('The', 1, n => 2);
\set VERBOSITY default
RESET gpt2.temperature;
RESET gpt2.top_k;

-- how calls are treated
SET gpt2.prefix_cache_salt = 'é';
SET gpt2.queue_timeout = '1min';
SHOW gpt2.queue_timeout;
SELECT gpt_generate('The', 8) = (SELECT gpt_generate('The', 8, options => '{"cache": false}'))
       AS same_text;
RESET gpt2.prefix_cache_salt;
RESET gpt2.queue_timeout;

-- out of range
\set VERBOSITY sqlstate
SET gpt2.max_len = 0;
SET gpt2.max_len = 2000000;
SET gpt2.temperature = -2;
SET gpt2.temperature = 'NaN';
SET gpt2.top_k = -2;
SET gpt2.top_p = 1.5;
SET gpt2.model = '../demo';
SET gpt2.queue_timeout = -1;
SELECT set_config('gpt2.prefix_cache_salt', repeat('x', 256), false) = repeat('x', 256) AS salt;
SELECT set_config('gpt2.prefix_cache_salt', repeat('x', 257), false);
RESET gpt2.prefix_cache_salt;
SET gpt2.max_tokens_per_call = -2;
SET gpt2.log_min_duration = -2;
-- the engine's settings are the configuration file's
SET gpt2.model_path = '/tmp';
SET gpt2.threads = 1;
SET gpt2.enabled = off;
SET gpt2.price_per_hour = 1;
\set VERBOSITY default
SELECT name, setting, unit, context, vartype, min_val, max_val FROM pg_settings
WHERE name LIKE 'gpt2.%' AND context <> 'user' AND vartype <> 'string' ORDER BY name;

-- and are checked where they are written
ALTER SYSTEM SET gpt2.preload_models = 'demo', 'Other-Model';
SELECT setting, error FROM pg_file_settings WHERE name = 'gpt2.preload_models';
ALTER SYSTEM RESET gpt2.preload_models;
\set VERBOSITY sqlstate
ALTER SYSTEM SET gpt2.preload_models = '../demo';
ALTER SYSTEM SET gpt2.preload_models = 'demo,,demo';
ALTER SYSTEM SET gpt2.step_tokens = 15;
ALTER SYSTEM SET gpt2.step_tokens = 513;
ALTER SYSTEM SET gpt2.nice = 20;
ALTER SYSTEM SET gpt2.price_per_hour = 'NaN';
ALTER SYSTEM SET gpt2.price_per_hour = -1;
ALTER SYSTEM SET gpt2.engine_idle_timeout = -1;
\set VERBOSITY default

-- for a role
CREATE ROLE regress_gpt2_settings;
ALTER ROLE regress_gpt2_settings SET gpt2.max_len = 7;
ALTER ROLE regress_gpt2_settings SET gpt2.max_tokens_per_call = 100;

-- limits, and what is logged, are not for everybody to set
\set VERBOSITY sqlstate
SET ROLE regress_gpt2_settings;
SET gpt2.max_tokens_per_call = -1;
SET gpt2.max_concurrent_sequences = -1;
SET gpt2.max_tokens_per_minute = -1;
SET gpt2.log_min_duration = 0;
ALTER ROLE regress_gpt2_settings SET gpt2.max_tokens_per_call = -1;
SET gpt2.queue_timeout = 5;
RESET ROLE;
RESET gpt2.queue_timeout;
\set VERBOSITY default
DROP ROLE regress_gpt2_settings;
