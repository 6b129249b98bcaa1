-- gpt_check_model: a folder's files, thing by thing, and who may ask.
SET client_min_messages = error;
CREATE EXTENSION IF NOT EXISTS gpt2;
SET client_min_messages = warning;
\i test/shell.sql
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
-- a file that was not downloaded to its end; a part of the weights that was not copied; a folder in it
SELECT pg_temp.shell($$cd gpt2_models/regress_check && printf '\377\0\0\0\0\0\0\0{}' > model.safetensors$$);
SELECT l FROM pg_temp.look('regress_check') AS l WHERE l LIKE 'weights%';
SELECT pg_temp.shell($$cd gpt2_models/regress_check && rm model.safetensors && $$
    || $$printf '{"weight_map": {"wte.weight": "model-1-of-2.safetensors"}}' > model.safetensors.index.json$$);
SELECT l FROM pg_temp.look('regress_check') AS l WHERE l LIKE 'weights%';
SELECT pg_temp.shell('cd gpt2_models && mkdir regress_outer && mv regress_check regress_outer');
SELECT pg_temp.look('regress_outer') LIMIT 1;
SELECT pg_temp.shell('cd gpt2_models && mv regress_outer/regress_check . && rmdir regress_outer');

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
-- weights that are missing as well: first comes what nothing can help
SELECT pg_temp.shell('mkdir gpt2_models/regress_bert && cd gpt2_models/regress_bert && '
                     || $$printf '{"model_type": "bert"}' > config.json$$);
DO $$ BEGIN
    PERFORM gpt_generate('x', model => 'regress_bert');
EXCEPTION WHEN OTHERS THEN
    RAISE WARNING '%', regexp_replace(sqlerrm, '/\S*/', '.../');
END $$;
SELECT pg_temp.shell('rm -r gpt2_models/regress_bert');
DROP ROLE regress_check_hr, regress_check_other;
