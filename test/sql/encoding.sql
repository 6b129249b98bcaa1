-- Databases in other encodings: text goes to the engine as UTF-8, comes back in the database's
-- encoding, and a character that it lacks is a question mark, never an error.
SET client_min_messages = warning;
SET client_encoding = 'UTF8';
CREATE EXTENSION IF NOT EXISTS gpt2;
SET gpt2.model = 'demo';
SELECT current_database() AS db \gset
SELECT getdatabaseencoding();
SELECT gpt_tokenize('café') AS cafe, gpt_tokenize('5 € 日本 🐘!') AS euro,
       gpt_tokenize('日本語') AS nihongo \gset
-- Unaligned: versions of psql differ in an emoji's width.
\a
SELECT gpt_detokenize(:'cafe') AS cafe, gpt_detokenize(:'euro') AS euro;
\a

CREATE DATABASE regression_gpt2_latin1 TEMPLATE template0 ENCODING 'LATIN1'
    LC_COLLATE 'C' LC_CTYPE 'C';
CREATE DATABASE regression_gpt2_eucjp TEMPLATE template0 ENCODING 'EUC_JP'
    LC_COLLATE 'C' LC_CTYPE 'C';
CREATE DATABASE regression_gpt2_ascii TEMPLATE template0 ENCODING 'SQL_ASCII'
    LC_COLLATE 'C' LC_CTYPE 'C';

\c regression_gpt2_latin1
SET client_encoding = 'UTF8';
SET client_min_messages = warning;
CREATE EXTENSION gpt2;
SET gpt2.model = 'demo';
SELECT getdatabaseencoding();
SELECT gpt_tokenize('café') = :'cafe' AS same_ids, octet_length('café') AS bytes;
SELECT gpt_detokenize(:'cafe') AS cafe, octet_length(gpt_detokenize(:'cafe')) AS bytes;
SELECT gpt_detokenize(:'euro') AS euro;
SELECT gpt_generate('café', 3, options => '{"echo": true}') LIKE 'café%' AS echo;
SELECT gpt_summarize(E'\u00a0 ') AS white_space;
SELECT string_agg(piece, '' ORDER BY pos) =
       gpt_generate('café', 40, temperature => 100, seed => 1) AS stream
FROM gpt_stream('café', 40, temperature => 100, seed => 1);
SET gpt2.prefix_cache_salt = 'é';
SELECT length(gpt_generate('café', 3)) >= 0 AS salt;
SELECT set_config('gpt2.prefix_cache_salt', repeat('é', 129), false) = repeat('é', 129) AS set;
SELECT gpt_generate('café', 3);
RESET gpt2.prefix_cache_salt;
SELECT length(gpt_generate('café', 3, stop => '{é}', options => '{"min_p": 0.1}')) >= 0 AS stop;
SELECT count(*) FROM gpt_models WHERE name = 'demo';

\c regression_gpt2_eucjp
SET client_encoding = 'UTF8';
SET client_min_messages = warning;
CREATE EXTENSION gpt2;
SET gpt2.model = 'demo';
SELECT getdatabaseencoding();
SELECT gpt_tokenize('日本語') = :'nihongo' AS same_ids, octet_length('日本語') AS bytes;
SELECT gpt_detokenize(:'nihongo') AS nihongo;
SELECT gpt_detokenize(:'euro') AS euro;
SELECT starts_with(gpt_generate('日本語', 3, options => '{"echo": true}'), '日本語') AS echo;
SELECT gpt_summarize('　') AS white_space;

\c regression_gpt2_ascii
SET client_min_messages = warning;
CREATE EXTENSION gpt2;
SET gpt2.model = 'demo';
SELECT getdatabaseencoding();
SELECT gpt_tokenize('café') = :'cafe' AS same_ids;
SELECT gpt_detokenize(:'cafe') = 'café' AS same_bytes;
-- bytes that are no character of any encoding in particular
SELECT gpt_count_tokens(E'\xff\xfe caf\xe9') > 0 AS any_bytes;
SELECT length(gpt_generate(E'caf\xe9', 3)) >= 0 AS generate;
SELECT gpt_generate(E'caf\xe9', 3, options => '{"echo": true}') LIKE E'caf\xe9%' AS echo;

\c :db
SET client_min_messages = warning;
DROP DATABASE regression_gpt2_latin1;
DROP DATABASE regression_gpt2_eucjp;
DROP DATABASE regression_gpt2_ascii;
