#!/bin/bash
# bench_rows.sh: what `make bench-rows` prints: one query with many rows in flight, against the same
# row by row and against what the engine alone needs for as many tokens, on GPT-2's 124M shape, in a
# private installation.  Nothing is answered from a cache.  Takes some minutes; quiet machines only.
#
# ROWS (1000): of the query with prompts of 64 tokens; the others are a fraction of it.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh demo
. scripts/lib.sh
make -s -j2 PG_CONFIG="$PG_CONFIG" all

rows=${ROWS:-1000}
root=$(mktemp -d "${TMPDIR:-/tmp}/gpt2-rows.XXXXXX")
chmod 755 "$root"
bin=
stop() {
	[ -z "$bin" ] || as_user "$bin/pg_ctl" -D "$root/data" -m fast -s stop 2>/dev/null || true
	rm -rf "$root"
}
trap stop EXIT

calc() { awk "BEGIN { printf \"%.${2:-2}f\", $1 }"; }
conninfo="host=$root/run user=bench dbname=postgres"
psql() { as_user "$bin/psql" -XAtq -v ON_ERROR_STOP=1 "$conninfo" "$@"; }

# seconds STATEMENT [SETTING]: how long it takes, in a session that is connected to the engine.
seconds() {
	psql -c "SELECT length(gpt_generate('x', 1))" -c "${2:-SELECT}" -c '\timing on' -c "$1" |
		sed -n 's/^Time: \([0-9.]*\) ms.*/\1/p' | awk '{ print $1 / 1000 }'
}

# query PROMPT NEW ROWS: prompts that have no prefix in common.
query() {
	echo "SELECT count(gpt_generate(p, $2, options => '{\"cache\": false}')) FROM (
		SELECT left(repeat(md5(i::text), 3), $1) AS p
		FROM generate_series(1, $3) AS i OFFSET 0) AS q"
}

echo "== machine"
lscpu | sed -n 's/^Model name: */cpu      /p; s/^CPU(s): */cpus     /p'
uptime | sed 's/.*load/load    /'
bin=$(scripts/private_install.sh "$root/pg")
mkdir -p "$root/run" "$root/models"
make_m124 "$root/models/m124"
echo "== engine alone"
build/gpt2_engine bench --model "$root/models/m124" --packs "$root/packs" --format q8 2>/dev/null |
	grep -E '^(decode|prefill)' | tee "$root/engine"
decode() { sed -n "s/^decode *$1 sequences *\([0-9.]*\) tokens.*/\1/p" "$root/engine"; }
prefill=$(sed -n 's/^prefill *512 tokens *\([0-9.]*\) tokens.*/\1/p' "$root/engine")

own "$root"
cd "$root"
as_user "$bin/initdb" -D "$root/data" -U bench -A trust -E UTF8 --no-locale >/dev/null
as_user sh -c "cat >>'$root/data/postgresql.conf'" <<END
listen_addresses = ''
unix_socket_directories = '$root/run'
gpt2.model_path = '$root/models'
gpt2.pack_directory = '$root/packs'
gpt2.weight_format = 'q8'
gpt2.nice = 0
session_preload_libraries = 'gpt2'
gpt2.model = 'm124'
END
as_user "$bin/pg_ctl" -D "$root/data" -l "$root/server.log" -w -s start
psql -c 'CREATE EXTENSION gpt2'

echo "== rows of one query"
# measure PROMPT NEW ROWS
measure() {
	local few=$(($3 / 12 + 1)) many one ahead alone
	many=$(seconds "$(query "$1" "$2" "$3")")
	one=$(seconds "$(query "$1" "$2" "$few")" 'SET gpt2.batch_rows = 1')
	alone=$(calc "$3 * ($1 / $prefill + $2 / $(decode 64))")
	ahead=$(calc "$one / $few / ($1 / $prefill + $2 / $(decode 1)) " 2)
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
