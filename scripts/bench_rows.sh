#!/bin/bash
# bench_rows.sh: what `make bench-rows` prints: one query with many rows in flight, against the same
# row by row and against what the engine alone needs for as many tokens, on GPT-2's 124M shape, in a
# private installation.  Nothing is answered from a cache.  Takes some minutes; quiet machines only.
#
# ROWS (1000): of the query with prompts of 64 tokens; the others are a fraction of it.
# CLASSIFY_ROWS (100000): a table of tickets that the demo model classifies; 0 leaves it out.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh demo
. scripts/bench_server.sh

rows=${ROWS:-1000}
classify_rows=${CLASSIFY_ROWS:-100000}
machine
make_m124 "$root/models/m124"
echo "== engine alone"
build/gpt2_engine bench --model "$root/models/m124" --packs "$root/packs" --format q8 2>/dev/null |
	grep -E '^(decode|prefill)' | tee "$root/engine"
decode() { sed -n "s/^decode *$1 sequences *\([0-9.]*\) tokens.*/\1/p" "$root/engine"; }
prefill=$(sed -n 's/^prefill *512 tokens *\([0-9.]*\) tokens.*/\1/p' "$root/engine")

cp models/demo/tickets.sql "$root/"
start_server <<END
gpt2.weight_format = 'q8'
gpt2.nice = 0
session_preload_libraries = 'gpt2'
gpt2.model = 'm124'
END
psql -c 'CREATE EXTENSION gpt2'

echo "== rows of one query"
# measure PROMPT NEW ROWS
measure() {
	local few=$(($3 / 12 + 1)) many one ahead alone
	many=$(seconds "$(rows_query "$1" "$2" "$3")")
	one=$(seconds "$(rows_query "$1" "$2" "$few")" 'SET gpt2.batch_rows = 1')
	alone=$(calc "$3 * ($1 / $prefill + $2 / $(decode 64))")
	ahead=$(calc "$one / $few / ($1 / $prefill + $2 / $(decode 1))")
	echo "$1 + $2 tokens: $(calc "$3 / $many") rows/s in flight, $(calc "$few / $one") row by row:" \
		"$(calc "$one / $few * $3 / $many") times as fast"
	echo "    the engine alone: $(calc "$3 / $alone") rows/s, of which" \
		"$(calc "100 * $alone / $many" 0) %; row by row takes $ahead times what it predicts"
}
measure 64 32 "$rows"
measure 16 64 "$((rows / 4))"

one=$(seconds "SELECT gpt_generate('y', 32, options => '{\"cache\": false}')")
psql -c 'CREATE TABLE big AS SELECT i FROM generate_series(1, 1000000) AS i'
first=$(seconds "SELECT gpt_generate('x' || i, 32, options => '{\"cache\": false}')
	FROM big LIMIT 1")
echo "LIMIT 1 over a million rows: $(calc "$first / $one") times a single call"

[ "$classify_rows" != 0 ] || exit 0
echo "== $classify_rows tickets are classified, demo model"
psql -f tickets.sql
psql -c "CREATE TABLE many AS SELECT i, i || E'\\n' || body AS body
	FROM generate_series(1, $classify_rows) AS i JOIN tickets ON id = i % 200 + 1"
psql -c '\timing on' -c "SELECT count(gpt_classify(body,
	'{battery,billing,delivery,hardware,praise,safety,software}', model => 'demo')) FROM many" \
	>classify.log &
background=$!
backend() {
	psql -c "SELECT pid FROM pg_stat_activity
		WHERE query ~ 'gpt_classify' AND state = 'active' AND pid <> pg_backend_pid()"
}
until [ -n "$(backend)" ]; do sleep 0.1; done
sample_memory "$(psql -c 'SELECT engine_pid FROM gpt_info()')" 100000 >engine.log &
sampler=$!
sample_memory "$(backend)" 100000 >backend.log
kill "$sampler"
wait "$background"
background=
took=$(sed -n 's/^Time: \([0-9]*\)\..*/\1/p' classify.log)
part=$((took / 5000 + 1))
echo "$(calc "1000 * $classify_rows / $took" 0) rows/s"
for what in engine backend; do
	before=$(mean_memory "$part" $((2 * part)) <$what.log)
	after=$(mean_memory $((4 * part)) $((5 * part)) <$what.log)
	echo "$what, anonymous memory: $before kB in the second fifth, $after kB in the last"
done
