-- gpt_reassign_model: who may give a model to whom, and what its gpt2.json says then.  The folder is made
-- by the server in its data directory's gpt2_models.  test/t/068_drop.pl has the rest.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS gpt2;
RESET client_min_messages;
SET client_encoding = 'UTF8';
\i test/shell.sql
CREATE FUNCTION pg_temp.write(contents text) RETURNS void LANGUAGE plpgsql AS
$$ BEGIN PERFORM pg_temp.shell(format('printf %%s %L > gpt2_models/regress_owned/gpt2.json', contents)); END $$;
-- gpt2.json, with words in place of numbers that are others elsewhere
CREATE FUNCTION pg_temp.gpt2_json() RETURNS jsonb LANGUAGE sql AS
$$ SELECT j || jsonb_strip_nulls(jsonb_build_object(
       'owner_oid', CASE WHEN (j ->> 'owner_oid')::oid = to_regrole(quote_ident(j ->> 'owner'))
                         THEN 'of that name' ELSE j ->> 'owner_oid' END,
       'owner_cluster', CASE WHEN j ->> 'owner_cluster' = (SELECT system_identifier::text FROM pg_control_system())
                             THEN 'this' ELSE j ->> 'owner_cluster' END))
   FROM (SELECT pg_read_file('gpt2_models/regress_owned/gpt2.json')::jsonb AS j) AS file $$;
CREATE ROLE regress_gpt2_ann;
CREATE ROLE regress_gpt2_bob;
CREATE ROLE regress_gpt2_team;
CREATE ROLE regress_gpt2_member IN ROLE regress_gpt2_ann, regress_gpt2_team;
CREATE ROLE "regress Gpt2 ""Bérlin""";
SELECT pg_temp.shell('mkdir -p gpt2_models/regress_owned && cd gpt2_models/regress_owned && '
                     || $$printf '{"model_type": "gpt2", "n_ctx": 64}' > config.json$$);

-- a model of nobody is the superuser's to give; whom it is for does not change
SET ROLE regress_gpt2_ann;
SELECT gpt_reassign_model('regress_owned', 'regress_gpt2_ann');
RESET ROLE;
SELECT owner FROM gpt_models WHERE name = 'regress_owned';
SELECT gpt_reassign_model('regress_owned', 'regress_gpt2_ann');
SELECT pg_temp.gpt2_json();
SET ROLE regress_gpt2_bob;
SELECT name, owner FROM gpt_models WHERE name = 'regress_owned';
RESET ROLE;
SELECT gpt_revoke_model('regress_owned', 'public');
SELECT pg_temp.gpt2_json();

-- the owner gives it to roles only that it could become
\set VERBOSITY sqlstate
SET ROLE regress_gpt2_ann;
SELECT gpt_reassign_model('regress_owned', 'regress_gpt2_bob');
SELECT gpt_reassign_model('regress_owned', 'regress_gpt2_team');
SET ROLE regress_gpt2_bob;
SELECT gpt_reassign_model('regress_owned', 'regress_gpt2_bob');
SET ROLE regress_gpt2_team;
SELECT gpt_reassign_model('regress_owned', 'regress_gpt2_team');
\set VERBOSITY default
-- to itself always; a member may too, and to what else it is a member of
SET ROLE regress_gpt2_ann;
SELECT gpt_reassign_model('regress_owned', 'regress_gpt2_ann');
SET ROLE regress_gpt2_member;
SELECT gpt_reassign_model('regress_owned', 'regress_gpt2_team');
SELECT name FROM gpt_models WHERE name = 'regress_owned';
RESET ROLE;
SELECT pg_temp.gpt2_json();
-- ann has it no more, until it is granted
SET ROLE regress_gpt2_ann;
SELECT name FROM gpt_models WHERE name = 'regress_owned';
SELECT gpt_reassign_model('regress_owned', 'regress_gpt2_ann');
SET ROLE regress_gpt2_team;
SELECT gpt_grant_model('regress_owned', 'regress_gpt2_ann');
SET ROLE regress_gpt2_ann;
SELECT name FROM gpt_models WHERE name = 'regress_owned';
SELECT gpt_reassign_model('regress_owned', 'regress_gpt2_ann');
RESET ROLE;
SELECT gpt_reassign_model('regress_owned', 'regress Gpt2 "Bérlin"');
SELECT pg_temp.gpt2_json();

-- what another cluster has written, or another name of the same role, is brought up to date
SELECT pg_temp.write('{"templates": {"sing": "{input}"}, "roles": [], "owner": "regress_gpt2_ann", "owner_oid": 10,
                       "owner_cluster": "1"}');
SET ROLE regress_gpt2_ann;
SELECT gpt_reassign_model('regress_owned', 'regress_gpt2_ann');
RESET ROLE;
SELECT pg_temp.gpt2_json();
ALTER ROLE regress_gpt2_ann RENAME TO regress_gpt2_anne;
SELECT pg_temp.gpt2_json() ->> 'owner' AS old_name, owner FROM gpt_models WHERE name = 'regress_owned';
SELECT gpt_reassign_model('regress_owned', 'regress_gpt2_anne');
SELECT pg_temp.gpt2_json();

-- of a role that is no more it is nobody's
CREATE ROLE regress_gpt2_gone;
SELECT gpt_reassign_model('regress_owned', 'regress_gpt2_gone');
DROP ROLE regress_gpt2_gone;
CREATE ROLE regress_gpt2_gone;
SELECT owner FROM gpt_models WHERE name = 'regress_owned';
DROP ROLE regress_gpt2_gone;

-- errors
SELECT gpt_reassign_model('regress_owned', 'regress_gpt2_nobody');
SELECT gpt_reassign_model('regress_owned', 'public');
SELECT gpt_reassign_model('regress_owned', NULL);
SELECT gpt_reassign_model(NULL, 'regress_gpt2_bob');
SELECT gpt_reassign_model('regress_nothing', 'regress_gpt2_bob');
SELECT gpt_reassign_model('../demo', 'regress_gpt2_bob');
SELECT pg_temp.write('{"owner": 7}');
SELECT gpt_reassign_model('regress_owned', 'regress_gpt2_bob');
SELECT pg_read_file('gpt2_models/regress_owned/gpt2.json');

SELECT pg_temp.shell('rm -rf gpt2_models/regress_owned');
DROP ROLE regress_gpt2_member, regress_gpt2_anne, regress_gpt2_bob, regress_gpt2_team, "regress Gpt2 ""Bérlin""";
