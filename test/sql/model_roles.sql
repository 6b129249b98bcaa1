-- gpt_grant_model, gpt_revoke_model: who sees a model.  Its folder is made by the server in its
-- data directory's gpt2_models, which model_path has by default.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS gpt2;
RESET client_min_messages;
SET client_encoding = 'UTF8';
\i test/shell.sql
SELECT pg_temp.shell('mkdir -p gpt2_models/regress_roles && cd gpt2_models/regress_roles && '
                     || $$printf '{"model_type": "gpt2", "n_ctx": 64}' > config.json$$);
CREATE FUNCTION pg_temp.gpt2_json() RETURNS jsonb LANGUAGE sql AS
$$ SELECT pg_read_file('gpt2_models/regress_roles/gpt2.json')::jsonb $$;
CREATE ROLE regress_gpt2_hr;
CREATE ROLE "regress Gpt2 ""Bérlin""";
CREATE ROLE regress_gpt2_member IN ROLE regress_gpt2_hr;
CREATE ROLE regress_gpt2_set_role NOINHERIT IN ROLE regress_gpt2_hr;
CREATE ROLE regress_gpt2_other;

-- the first grant takes the model from everybody else; a second one of the same changes nothing
SELECT gpt_grant_model('regress_roles', 'regress_gpt2_hr');
SELECT gpt_grant_model('regress_roles', 'regress_gpt2_hr');
SELECT gpt_grant_model('regress_roles', 'regress Gpt2 "Bérlin"');
SELECT pg_temp.gpt2_json();
SELECT name FROM gpt_models WHERE name = 'regress_roles';
SET ROLE regress_gpt2_member;
SELECT name FROM gpt_models WHERE name = 'regress_roles';
SET ROLE regress_gpt2_set_role;
SELECT name FROM gpt_models WHERE name = 'regress_roles';
SET ROLE regress_gpt2_other;
SELECT name FROM gpt_models WHERE name = 'regress_roles';
SET ROLE "regress Gpt2 ""Bérlin""";
SELECT name FROM gpt_models WHERE name = 'regress_roles';
RESET ROLE;

-- without the last role it is for superusers
SELECT gpt_revoke_model('regress_roles', 'regress_gpt2_other');
SELECT gpt_revoke_model('regress_roles', 'regress_gpt2_hr');
SELECT gpt_revoke_model('regress_roles', 'regress Gpt2 "Bérlin"');
SELECT pg_temp.gpt2_json();
SET ROLE regress_gpt2_member;
SELECT name FROM gpt_models WHERE name = 'regress_roles';
RESET ROLE;
SELECT name FROM gpt_models WHERE name = 'regress_roles';

-- public
SELECT gpt_grant_model('regress_roles', 'public');
SELECT pg_temp.gpt2_json();
SET ROLE regress_gpt2_other;
SELECT name FROM gpt_models WHERE name = 'regress_roles';
RESET ROLE;
SELECT gpt_revoke_model('regress_roles', 'public');
SELECT pg_temp.gpt2_json();
SELECT gpt_grant_model('regress_roles', 'public');

-- errors
SELECT gpt_revoke_model('regress_roles', 'regress_gpt2_hr');
SELECT gpt_grant_model('regress_roles', 'regress_gpt2_nobody');
SELECT gpt_grant_model('regress_nothing', 'regress_gpt2_hr');
SELECT gpt_grant_model('../demo', 'regress_gpt2_hr');
SELECT gpt_grant_model('', 'regress_gpt2_hr');
\set VERBOSITY sqlstate
SELECT gpt_grant_model(repeat('x', 256), 'regress_gpt2_hr');
\set VERBOSITY default
SELECT gpt_grant_model(NULL, 'regress_gpt2_hr');
SELECT gpt_grant_model('regress_roles', NULL);
SET ROLE regress_gpt2_hr;
SELECT gpt_grant_model('regress_roles', 'regress_gpt2_hr');
SELECT gpt_revoke_model('regress_roles', 'public');
RESET ROLE;

-- a limit: 256 roles
SELECT pg_temp.shell($$printf '{"roles": ["a"$$ || repeat(', "a"', 255)
                     || $$]}' > gpt2_models/regress_roles/gpt2.json$$);
SELECT gpt_grant_model('regress_roles', 'regress_gpt2_hr');

SELECT pg_temp.shell('rm -rf gpt2_models/regress_roles');
DROP ROLE regress_gpt2_member, regress_gpt2_set_role, regress_gpt2_other, regress_gpt2_hr,
    "regress Gpt2 ""Bérlin""";
