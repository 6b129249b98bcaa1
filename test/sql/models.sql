-- The view gpt_models, loading and unloading, gpt_info.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS gpt2;

SELECT column_name, data_type FROM information_schema.columns
WHERE table_schema = 'public' AND table_name = 'gpt_models' ORDER BY ordinal_position;

-- loaded by its first use
SELECT length(gpt_generate('The', 1, model => 'demo')) >= 0 AS used;
SELECT name, architecture, state, error, parameters > 0 AS parameters, context_length > 0 AS context,
       vocab_size > 0 AS vocab, weight_format, bytes > 0 AS bytes, length(content_hash) AS hash,
       loaded_at <= clock_timestamp() AS loaded_at, last_used_at >= loaded_at AS last_used_at, percent
FROM gpt_models WHERE name = 'demo';

SELECT gpt_unload_model('demo');
SELECT state IN ('on disk', 'loaded') AS state FROM gpt_models WHERE name = 'demo';
SELECT gpt_load_model('demo');
SELECT state, error FROM gpt_models WHERE name = 'demo';
SELECT gpt_load_model('demo', 'f32');

-- the engine
SELECT arithmetic IS NOT NULL AS arithmetic, version ~ '^\d+\.\d+\.\d+$' AS version, threads > 0 AS threads,
       isa IS NOT NULL AS isa, supervisor_pid > 0 AS supervisor, engine_pid > 0 AS engine,
       engine_pid <> supervisor_pid AS apart, started_at <= clock_timestamp() AS started_at,
       restart_pending
FROM gpt_info();
SELECT live_requests >= 0 AS requests, live_sequences >= 0 AS sequences,
       kv_blocks_used <= kv_blocks_total AS blocks
FROM gpt_engine_counters();

-- folders that are wrong: what is wrong is in their row, and the view goes on.  They are made by
-- the server in its data directory's gpt2_models, which model_path has by default.
\i test/shell.sql
DO $do$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY '{empty,json,deep,array,utf8,nul,big,link,fifo,dir,number,range,good,
                            nothing}'::text[] LOOP
        PERFORM pg_temp.shell('mkdir -p gpt2_models/regress_' || name);
    END LOOP;
    PERFORM pg_temp.shell(format('cd gpt2_models/regress_%s && %s', folder, command)) FROM (VALUES
        ('empty', $$: > config.json$$),
        ('json', $$printf '{"model_type": ' > config.json$$),
        ('deep', $$head -c 60000 /dev/zero | tr '\0' '[' > config.json$$),
        ('array', $$printf '[1]' > config.json$$),
        ('utf8', $$printf '{"model_type": "\377"}' > config.json$$),
        ('nul', $$printf '{"a": 1}\0' > config.json$$),
        ('big', $$head -c 70000 /dev/zero | tr '\0' ' ' > config.json$$),
        ('link', $$ln -s ../regress_good/config.json config.json$$),
        ('fifo', $$mkfifo config.json$$),
        ('dir', $$mkdir config.json$$),
        ('number', $$printf '{"n_positions": "64"}' > config.json$$),
        ('range', $$printf '{"vocab_size": 1e400}' > config.json$$),
        ('good', $$printf '{"model_type": "gpt2", "n_ctx": 64, "vocab_size": 5}' > config.json$$),
        ('good', $$ln -s regress_good ../regress_symlink$$),
        ('good', $$mkdir ../.regress && cp config.json ../.regress$$)
    ) AS v (folder, command);
END $do$;
SELECT name, architecture, context_length, vocab_size, state, error
FROM gpt_models WHERE name LIKE 'regress%' OR name LIKE '.%' ORDER BY name COLLATE "C";
DO $$ BEGIN PERFORM pg_temp.shell('rm -rf gpt2_models/regress_* gpt2_models/.regress'); END $$;
SELECT count(*) FROM gpt_models WHERE name LIKE 'regress%';

-- the log of a training is read in a plan with workers too: it says what it always says
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET min_parallel_table_scan_size = 0;
SELECT count(*) > 0, (SELECT count(*) FROM gpt_training_log('demo')) FROM pg_class;
SELECT count(*) > 0, (SELECT gpt_training_svg('demo')) FROM pg_class;
