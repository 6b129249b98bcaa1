-- Who may call what, and a search_path that somebody hostile has filled.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS gpt2;
CREATE ROLE regress_gpt2_user;
GRANT CREATE ON SCHEMA public TO regress_gpt2_user;

-- functions of the extension that PUBLIC may not execute
SELECT p.oid::regprocedure
FROM pg_proc AS p
JOIN pg_depend AS d ON d.objid = p.oid AND d.classid = 'pg_proc'::regclass AND d.deptype = 'e'
JOIN pg_extension AS e ON e.oid = d.refobjid AND e.extname = 'gpt2'
WHERE NOT has_function_privilege('regress_gpt2_user', p.oid, 'EXECUTE')
ORDER BY p.proname;
-- none runs with its owner's rights
SELECT count(*) AS security_definer
FROM pg_proc AS p
JOIN pg_depend AS d ON d.objid = p.oid AND d.classid = 'pg_proc'::regclass AND d.deptype = 'e'
JOIN pg_extension AS e ON e.oid = d.refobjid AND e.extname = 'gpt2'
WHERE p.prosecdef;

SET ROLE regress_gpt2_user;
SET gpt2.model = 'demo';
SELECT length(gpt_generate('The', 2)) >= 0 AS generate, gpt_count_tokens('') AS count,
       length(gpt_summarize('The', 2)) >= 0 AS summarize;
SELECT count(*) AS demo FROM gpt_models WHERE name = 'demo';
SELECT version IS NOT NULL AS version FROM gpt_info();
\set VERBOSITY sqlstate
SELECT gpt_load_model('demo');
SELECT gpt_unload_model('demo');
SELECT live_requests FROM gpt_engine_counters();
SET gpt2.model_path = 'x';
\set VERBOSITY default
RESET ROLE;

-- objects of a hostile user before pg_catalog's
SET ROLE regress_gpt2_user;
CREATE FUNCTION public.hostile() RETURNS void LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'hostile code was run'; END $$;
CREATE FUNCTION public.random() RETURNS float8 LANGUAGE sql AS
$$ SELECT public.hostile(); SELECT 0.0::float8 $$;
CREATE FUNCTION public.texteq(text, text) RETURNS boolean LANGUAGE sql AS
$$ SELECT public.hostile(); SELECT true $$;
CREATE OPERATOR public.= (LEFTARG = text, RIGHTARG = text, FUNCTION = public.texteq);
RESET ROLE;
SET search_path = public, pg_catalog;
SELECT length(gpt_generate('The', 2, temperature => 1)) >= 0 AS generate;
SELECT count(*) FROM gpt_generate('The', 2, n => 2, options => '{"stop": "a"}');
SELECT count(*) > 0 AS models FROM gpt_models;
SELECT version IS NOT NULL AS version FROM gpt_info();
RESET search_path;
DROP OPERATOR public.= (text, text);
DROP FUNCTION public.random(), public.texteq(text, text), public.hostile();

-- the extension's schema is the one it was given; its view needs no search_path
DROP EXTENSION gpt2;
CREATE SCHEMA regress_gpt2_schema;
CREATE EXTENSION gpt2 SCHEMA regress_gpt2_schema;
SELECT count(*) FROM regress_gpt2_schema.gpt_models WHERE name = 'demo';
SELECT length(regress_gpt2_schema.gpt_generate('The', 2)) >= 0 AS generate;
ALTER EXTENSION gpt2 SET SCHEMA public;
DROP EXTENSION gpt2;
DROP SCHEMA regress_gpt2_schema;
-- a function that stands in the way is an error, not replaced
CREATE FUNCTION public.gpt_info() RETURNS int LANGUAGE sql AS 'SELECT 1';
\set VERBOSITY sqlstate
CREATE EXTENSION gpt2;
\set VERBOSITY default
DROP FUNCTION public.gpt_info();
CREATE EXTENSION gpt2;
REVOKE CREATE ON SCHEMA public FROM regress_gpt2_user;
DROP ROLE regress_gpt2_user;
