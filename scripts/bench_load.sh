#!/bin/bash
# bench_load.sh: what `make bench-load` prints: many clients on one server, in a private
# installation.  Closed loops of 1, 8, 64 and 200 clients, with prompts of 64 to 256 tokens and 32
# new ones, no cache; twice each: through pgbench, for the rate, and through cursors that fetch
# token by token, for what a reader waits for.  Then a long run, and pgbench -S beside the load.
# Quiet machines only.
#
# LOAD_SECONDS (60): the long run, 240 at least where memory is to be compared: short ones begin
# with its rise.  LOAD_STEP (20): each of the others, longer with the large model, where 200 texts take a
# minute.  LOAD_MODELS (demo m124), LOAD_CLIENTS (1 8 64 200).
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh test
make -s build/bench/stream_clients
. scripts/bench_server.sh

long=${LOAD_SECONDS:-60}
step=${LOAD_STEP:-20}
models=${LOAD_MODELS:-demo m124}
clients=${LOAD_CLIENTS:-1 8 64 200}
# Tokens that the model has computed so far: those of prompts, and new ones.
tokens() { psql -c "SELECT prompt_tokens, completion_tokens FROM gpt_stat_engine WHERE model = '$1'"; }

machine
make_m124 "$root/models/m124"
echo "== engine alone, 124M shape, q8"
build/gpt2_engine bench --model "$root/models/m124" --packs "$root/packs" 2>/dev/null |
	tee "$root/engine"
product=$(sed -n 's/^decode  64 sequences *\([0-9.]*\) tokens.*/\1/p' "$root/engine")
cp build/bench/stream_clients scripts/bench_load.sql models/demo/tickets.sql "$root/"
start_server <<END
max_connections = 250
shared_preload_libraries = 'gpt2'
END
as_user "$bin/psql" -Xq "$conninfo" -f bench_load.sql
psql -c "SELECT gpt_load_model(m) FROM unnest('{$(echo $models | tr ' ' ,)}'::text[]) AS m" >/dev/null

# A closed loop for pgbench; an error ends a client, and is told.
as_user sh -c "cat >'$root/call.sql'" <<'END'
\set id random(1, 2000)
SELECT completion_tokens
FROM prompts AS p, gpt_completions(p.text, 32, model => :model, options => '{"cache": false}')
WHERE p.id = :id;
END
bench() {	# CLIENTS SECONDS MODEL LOG
	as_user "$bin/pgbench" -n -c "$1" -j 1 -T "$2" -D "model='$3'" -f call.sql "$conninfo" \
		>"$4" 2>&1
}

rate=
for model in $models; do
	psql -c "CREATE OR REPLACE VIEW prompts AS SELECT id, text FROM prompts_$model"
	echo "== model $model: prompts of $(psql -c "SELECT min(tokens) || ' to ' || max(tokens) ||
		', mean ' || round(avg(tokens)) FROM prompts_$model") tokens, 32 new ones"
	printf '%-8s|%33s|%15s|%17s|%17s|\n' '' 'pgbench' 'cursors' 'first token, ms' 'next tokens, ms'
	printf '%-8s|%10s %12s %9s|%8s %6s|%8s %8s|%8s %8s|%7s\n' clients 'new/s' 'all/s' 'texts' \
		'new/s' 'texts' p50 p99 p50 p99 errors
	for n in $clients; do
		seconds=$step
		# Ten times as many positions are computed as tokens are made.
		[ "$model" = demo ] || seconds=$((step * (n < 64 ? 1 : n < 200 ? 3 : 6)))
		bench "$n" "$seconds" "$model" "$root/bench.log" &
		background=$!
		# From the time when all are at work: the first fifth is left out, and the ends too.
		sleep $((seconds / 5 + 1))
		IFS='|' read -r prompt0 new0 < <(tokens "$model")
		from=$(date +%s.%N)
		sleep $((seconds - seconds / 5 - 2))
		IFS='|' read -r prompt1 new1 < <(tokens "$model")
		to=$(date +%s.%N)
		failed=0
		wait "$background" || failed=1
		background=
		texts=$(sed -n 's/^number of transactions actually processed: \([0-9]*\).*/\1/p' bench.log)
		new=$(calc "($new1 - $new0) / ($to - $from)")
		all=$(calc "($new1 + $prompt1 - $new0 - $prompt0) / ($to - $from)")
		read -r _ s_texts s_new first50 first99 next50 next99 s_errors \
			< <(as_user "$root/stream_clients" "$conninfo" "$model" 2000 "$n" "$seconds")
		printf '%-8s|%10.1f %12.1f %9s|%8.1f %6s|%8.1f %8.1f|%8.2f %8.2f|%7s\n' "$n" "$new" "$all" \
			"$texts" "$s_new" "$s_texts" "$first50" "$first99" "$next50" "$next99" \
			$((s_errors + failed))
		[ "$failed" = 0 ] || grep -m 3 ERROR bench.log || true
		[ "$model $n" != 'm124 64' ] || rate=$all
	done
done
if [ -n "$rate" ]; then
	printf '64 clients, all tokens: %.0f/s; the engine alone, 64 sequences: %.0f/s; ' \
		"$rate" "$product"
	printf 'ratio: %.0f %% (aim: 60 %%)\n' "$(calc "100 * $rate / $product")"
fi

echo "== 200 clients for $long s, demo model"
psql -c "CREATE OR REPLACE VIEW prompts AS SELECT id, text FROM prompts_demo"
# A new engine: what the large model has touched is not to hide a growth.
psql -c 'SELECT gpt_restart_engine()' >/dev/null
psql -c "SELECT gpt_load_model('demo')" >/dev/null
failed=0
bench 200 "$long" demo "$root/bench.log" &
background=$!
part=$((long >= 240 ? 60 : long / 4))
sample_memory "$(psql -c 'SELECT engine_pid FROM gpt_info()')" "$((long - 1))" >memory.log
wait "$background" || failed=1
background=
sed -n 's/^number of \(transactions actually processed\|failed transactions\)/&/p' bench.log
printf 'errors: %s\n' "$(grep -c ERROR bench.log || true)"
before=$(mean_memory "$part" $((2 * part)) <memory.log)
after=$(mean_memory $((long - part)) "$long" <memory.log)
printf 'engine, anonymous memory, mean: %s kB from %s to %s s, %s kB in the last %s s: %+.2f %%\n' \
	"$before" "$part" $((2 * part)) "$after" "$part" "$(calc "100 * ($after - $before) / $before")"

echo "== pgbench -S, 2 clients, beside 64 that generate"
as_user "$bin/pgbench" -i -q -s 10 "$conninfo" >/dev/null 2>&1
neighbour() {
	rm -f "$root"/select.*
	as_user "$bin/pgbench" -n -S -M prepared -c 2 -j 1 -T "$step" -l --log-prefix="$root/select" \
		"$conninfo" | sed -n 's/^tps = \([0-9.]*\).*/\1/p' >"$root/tps"
	# The third column is the time of a transaction in microseconds.
	cat "$root"/select.* | cut -d' ' -f3 | sort -n >"$root/times"
	p99=$(sed -n "$(($(wc -l <"$root/times") * 99 / 100 + 1))p" "$root/times")
}
last=${models##* }
neighbour
alone=$p99
printf 'alone: p99 %s us, %.0f transactions/s\n' "$p99" "$(cat tps)"
psql -c "CREATE OR REPLACE VIEW prompts AS SELECT id, text FROM prompts_$last"
bench 64 $((step + 10)) "$last" "$root/bench.log" &
background=$!
sleep 5
neighbour
printf 'beside (model %s): p99 %s us, %.0f transactions/s\n' "$last" "$p99" "$(cat tps)"
printf 'ratio of p99: %.2f (aim: 1.3)\n' "$(calc "$p99 / $alone")"
wait "$background" || failed=1
background=
exit "$failed"
