-- demo.sql: what `make demo` shows.
SET client_min_messages = warning;
CREATE EXTENSION gpt2;
\i tickets.sql
SET gpt2.model = 'demo';
SELECT gpt_load_model('demo') \gset
\echo
\echo UPDATE tickets SET summary = gpt_summarize(body);
SELECT clock_timestamp() AS started \gset
UPDATE tickets SET summary = gpt_summarize(body);
SELECT extract(epoch FROM clock_timestamp() - :'started') AS seconds \gset
\echo
SELECT id,
       regexp_replace(left(replace(body, E'\n', ' '), 50), '\s+\S*$', ' ...') AS ticket,
       summary
FROM tickets ORDER BY id LIMIT 12;
SELECT count(*) AS rows,
       round(count(*) / :seconds::numeric, 1) AS "rows/s",
       sum(gpt_count_tokens(body)) AS "tokens read",
       sum(gpt_count_tokens(summary)) AS "tokens written",
       round(sum(gpt_count_tokens(body) + gpt_count_tokens(summary)) / :seconds::numeric) AS "tokens/s"
FROM tickets;
