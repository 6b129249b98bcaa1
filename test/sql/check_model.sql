-- gpt_check_model: a folder's files, thing by thing, and who may ask.
SET client_min_messages = error;
CREATE EXTENSION IF NOT EXISTS gpt2;
SET client_min_messages = warning;
CREATE TEMP TABLE commands (line text);
CREATE FUNCTION pg_temp.shell(command text) RETURNS void LANGUAGE plpgsql AS
$$ BEGIN EXECUTE format('COPY commands FROM PROGRAM %L', command || ' 2>&1'); END $$;
CREATE FUNCTION pg_temp.look(name text) RETURNS SETOF text LANGUAGE sql AS
$$ SELECT concat_ws(' | ', item, coalesce(ok::text, 'not looked at'),
                    regexp_replace(detail, '"?/\S*/', '.../', 'g'), hint)
   FROM gpt_check_model(name) $$;
SELECT pg_temp.look('demo');

SELECT gpt_check_model(NULL);
SELECT gpt_check_model('');
SELECT gpt_check_model('../demo');
\set VERBOSITY terse
SELECT gpt_check_model('nosuch');
\set VERBOSITY default

SELECT pg_temp.shell('mkdir -p gpt2_models/regress_check && cd gpt2_models/regress_check && '
                     || $$printf '{"model_type": "bert"}' > config.json$$);
SELECT pg_temp.look('regress_check');
SELECT pg_temp.shell('cd gpt2_models/regress_check && '
                     || $$printf '{"model_type": "gpt2", "n_ctx": 64, "n_embd": 32, "n_layer": 1, $$
                     || $$"n_head": 2, "vocab_size": 100, "eos_token_id": 7}' > config.json; $$
                     || $$printf 'version https://git-lfs.github.com/spec/v1\n' > model.safetensors; $$
                     || $$printf '{"roles": ["regress_check_hr"], "templates": {"sing": "{input}"}}' > gpt2.json$$);
SELECT pg_temp.look('regress_check');

-- only who may use it
CREATE ROLE regress_check_hr;
CREATE ROLE regress_check_other;
SET ROLE regress_check_hr;
SELECT count(*) FROM gpt_check_model('regress_check');
SET ROLE regress_check_other;
SELECT count(*) FROM gpt_check_model('regress_check');
SELECT count(*) FROM gpt_check_model('demo');
RESET ROLE;
SELECT pg_temp.shell($$printf '{"roles": 7}' > gpt2_models/regress_check/gpt2.json$$);
SELECT pg_temp.look('regress_check') OFFSET 4 LIMIT 2;
SET ROLE regress_check_hr;
SELECT count(*) FROM gpt_check_model('regress_check');
RESET ROLE;
-- a look loads nothing
SELECT state FROM gpt_models WHERE name = 'regress_check';
SELECT pg_temp.shell('rm -r gpt2_models/regress_check');
DROP ROLE regress_check_hr, regress_check_other;
