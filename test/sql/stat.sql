-- The views of requests, usage and engine, without an engine; who may reset and stop.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS gpt2;

SELECT table_name, column_name, data_type FROM information_schema.columns
WHERE table_schema = 'public' AND table_name LIKE 'gpt\_stat\_%'
ORDER BY table_name COLLATE "C", ordinal_position;

SELECT gpt_stop_engine(purge => true);
SELECT supervisor_pid, engine_pid FROM gpt_info();
SELECT * FROM gpt_stat_requests;
SELECT * FROM gpt_stat_usage;
SELECT * FROM gpt_stat_engine;
SELECT gpt_stat_reset();
SELECT gpt_restart_engine();
SELECT gpt_stop_engine(NULL);
-- none of these has started it
SELECT supervisor_pid, engine_pid FROM gpt_info();

-- who may do what
CREATE ROLE regress_gpt2_watcher;
SET ROLE regress_gpt2_watcher;
SELECT count(*) FROM gpt_stat_requests;
SELECT count(*) FROM gpt_stat_usage;
SELECT count(*) FROM gpt_stat_engine;
\set VERBOSITY sqlstate
SELECT gpt_stat_reset();
SELECT gpt_restart_engine();
SELECT gpt_stop_engine();
\set VERBOSITY default
RESET ROLE;
DROP ROLE regress_gpt2_watcher;

-- the next call starts it again
SELECT length(gpt_generate('The', 1, model => 'demo')) >= 0 AS back;
