-- bench.sql: what SQL adds to the engine's own time, on the demo model.
SET client_min_messages = warning;
CREATE EXTENSION gpt2;
SET gpt2.model = 'demo';
SELECT clock_timestamp() AS t \gset
SELECT length(gpt_generate('x', 1)) AS l \gset
SELECT round(1e3 * extract(epoch FROM clock_timestamp() - :'t'), 1)
       AS "first call of the cluster, ms (starts supervisor and engine, packs the model)";
\c
SET client_min_messages = warning;
SET gpt2.model = 'demo';
SELECT clock_timestamp() AS t \gset
SELECT length(gpt_generate('x', 1)) AS l \gset
SELECT round(1e3 * extract(epoch FROM clock_timestamp() - :'t'), 1)
       AS "first call of a session, ms";
CREATE TEMP TABLE calls AS
SELECT extract(epoch FROM c.elapsed) * 1e6 AS engine_us,
       extract(epoch FROM clock_timestamp() - s.t) * 1e6 AS sql_us
FROM generate_series(1, 2000) AS i,
     LATERAL (SELECT clock_timestamp() AS t, i AS j OFFSET 0) AS s,
     LATERAL gpt_completions('x' || s.j, 1) AS c;
SELECT round(percentile_cont(0.5) WITHIN GROUP (ORDER BY engine_us)) AS "one token: engine, us (median)",
       round(percentile_cont(0.5) WITHIN GROUP (ORDER BY sql_us)) AS "with SQL, us",
       round(percentile_cont(0.5) WITHIN GROUP (ORDER BY sql_us - engine_us)) AS "SQL adds, us",
       round(percentile_cont(0.99) WITHIN GROUP (ORDER BY sql_us - engine_us)) AS "99th percentile, us"
FROM calls;
-- Memory: proportional set size of this backend before and after it has used the engine.
CREATE FUNCTION pss_kb(pid int) RETURNS int LANGUAGE sql AS $$
    SELECT substring(pg_read_file('/proc/' || $1 || '/smaps_rollup') FROM 'Pss: *([0-9]+)')::int $$;
\c
SET client_min_messages = warning;
SET gpt2.model = 'demo';
SELECT pss_kb(pg_backend_pid()) AS before \gset
SELECT length(gpt_generate('x', 1)) AS l \gset
SELECT pss_kb(pg_backend_pid()) - :before AS "a session's first call adds, kB";
