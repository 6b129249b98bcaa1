-- gpt_drop_model, gpt_drop_training: what is refused, and a folder that goes.  It is made by the server
-- in its data directory's gpt2_models.  test/t/068_drop.pl has the rest.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS gpt2;
RESET client_min_messages;
\i test/shell.sql
CREATE FUNCTION pg_temp.make(name text, file text, contents text) RETURNS void LANGUAGE plpgsql AS
$$ BEGIN PERFORM pg_temp.shell(format('mkdir -p gpt2_models/%1$s && printf %%s %3$L > gpt2_models/%1$s/%2$s',
                                      name, file, contents)); END $$;
CREATE ROLE regress_gpt2_owner;
CREATE ROLE regress_gpt2_other;

-- by name
SELECT gpt_drop_model(NULL);
SELECT gpt_drop_model('');
SELECT gpt_drop_model('../demo');
SELECT gpt_drop_model('.gone.1');
SELECT gpt_drop_model('regress_nothing');
SELECT gpt_drop_training(NULL);
SELECT gpt_drop_training('regress_nothing');

-- a model of another directory
\set VERBOSITY sqlstate
SELECT gpt_drop_model('demo');
\set VERBOSITY default
SELECT count(*) FROM gpt_models WHERE name = 'demo';

-- by owner
SELECT pg_temp.make('regress_base', 'config.json', '{"model_type": "gpt2", "n_ctx": 64}');
SELECT pg_temp.make('regress_base', 'gpt2.json', '{"owner": "regress_gpt2_owner"}');
SET ROLE regress_gpt2_other;
SELECT gpt_drop_model('regress_base');
RESET ROLE;

-- with an adapter, which only its owner sees
SELECT pg_temp.make('regress_adapter', 'adapter_config.json',
                    '{"base_model_name_or_path": "somewhere/regress_base"}');
SELECT pg_temp.make('regress_adapter', 'gpt2.json', '{"owner": "regress_gpt2_other", "roles": []}');
SELECT gpt_drop_model('regress_base');
SET ROLE regress_gpt2_owner;
SELECT gpt_drop_model('regress_base');
SET ROLE regress_gpt2_other;
SELECT name, base FROM gpt_models WHERE name LIKE 'regress%' ORDER BY name;
SELECT gpt_drop_model('regress_adapter');

-- then it goes whole
SET ROLE regress_gpt2_owner;
SELECT gpt_drop_model('regress_base');
RESET ROLE;
SELECT count(*) FROM pg_ls_dir('gpt2_models', true, false) AS f WHERE f LIKE 'regress%' OR f LIKE '.gone%';

-- the owner: an OID of this cluster, or the name
SELECT pg_temp.make('regress_owned', 'config.json', '{"model_type": "gpt2"}');
SELECT pg_temp.make('regress_owned', 'gpt2.json', format(
    '{"roles": [], "owner": "regress_gpt2_other", "owner_oid": %s, "owner_cluster": "%s"}',
    'regress_gpt2_owner'::regrole::oid, (SELECT system_identifier FROM pg_control_system())));
SET ROLE regress_gpt2_other;
SELECT name FROM gpt_models WHERE name = 'regress_owned';
SELECT gpt_drop_model('regress_owned');
SET ROLE regress_gpt2_owner;
SELECT name FROM gpt_models WHERE name = 'regress_owned';
RESET ROLE;
SELECT pg_temp.make('regress_owned', 'gpt2.json', format(
    '{"roles": [], "owner": "regress_gpt2_other", "owner_oid": %s, "owner_cluster": "1"}',
    'regress_gpt2_owner'::regrole::oid));
SET ROLE regress_gpt2_owner;
SELECT gpt_drop_model('regress_owned');
RESET ROLE;

-- what cannot be understood is a superuser's
SELECT pg_temp.make('regress_owned', 'gpt2.json', '{"owner": "regress_gpt2_other", "owner_oid": -1}');
SELECT error FROM gpt_models WHERE name = 'regress_owned';
SELECT pg_temp.make('regress_owned', 'gpt2.json', '{"owner": "regress_gpt2_other", "owner_cluster": 7}');
SELECT error FROM gpt_models WHERE name = 'regress_owned';
SELECT pg_temp.make('regress_owned', 'gpt2.json', '{"owner": "regress_gpt2_other", "owner_cluster": "7x"}');
SELECT error FROM gpt_models WHERE name = 'regress_owned';
SELECT gpt_grant_model('regress_owned', 'regress_gpt2_other');
SET ROLE regress_gpt2_other;
SELECT gpt_drop_model('regress_owned');
SELECT name FROM gpt_models WHERE name = 'regress_owned';
RESET ROLE;
SELECT gpt_drop_model('regress_owned');
DROP ROLE regress_gpt2_owner, regress_gpt2_other;
