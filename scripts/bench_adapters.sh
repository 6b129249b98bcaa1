#!/bin/bash
# bench_adapters.sh: what `make bench-adapters` prints: decoding with LoRA adapters that stay beside
# their base, against the base alone, and what they take of memory, on GPT-2's 124M shape in q8, made by
# gpt_finetune in a private installation; and what a training of it takes of memory.  Takes five minutes;
# quiet machines only.
#
# RANK (8): of the adapters.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh demo
. scripts/bench_server.sh

machine
make_m124 "$root/models/m124"
start_server <<END
gpt2.model_path = '$root/models, gpt2_models'
gpt2.weight_format = 'q8'
gpt2.nice = 0
END
psql -c 'CREATE EXTENSION gpt2'
# One step: what they say does not matter here.
for i in 1 2 3; do
	psql -c "CALL gpt_finetune('m124', 'SELECT ''some text $i''', 'adapter$i',
		lora_rank => ${RANK:-8}, merge => false, steps => 1, batch_tokens => 16, eval_fraction => 0)" \
		-c "SELECT gpt_grant_model('adapter$i', 'public')" >/dev/null
	as_user cp -r "$root/data/gpt2_models/adapter$i" "$root/models/"
done

echo "== memory of the engine (proportional set size) when each has made 20 tokens"
for model in m124 adapter1 adapter2 adapter3; do
	psql -c "SELECT length(gpt_generate('x', 20, model => '$model'))" >/dev/null
	engine=$(psql -c 'SELECT engine_pid FROM gpt_info()')
	printf '%-8s %5s MB, %s of its own\n' "$model" \
		"$(awk '/^Pss:/ { printf "%.0f", $2 / 1024 }' "/proc/$engine/smaps_rollup")" \
		"$(psql -c "SELECT pg_size_pretty(bytes) FROM gpt_models WHERE name = '$model'")"
done
psql -c 'SELECT gpt_stop_engine()' >/dev/null

echo "== memory of a whole training, resident at most"
# The trainer's own high-water mark, as it stood when last seen.
for how in '' ', lora_rank => 8'; do
	psql -c "CALL gpt_finetune('m124', 'SELECT repeat(md5(i::text), 20) FROM generate_series(1, 100) AS i',
		'trained$SECONDS'$how, steps => 3, batch_tokens => 256, eval_fraction => 0.1)" >/dev/null &
	background=$!
	most=0
	while kill -0 "$background" 2>/dev/null; do
		for status in $(grep -l '^Name:.*gpt2_train' /proc/[0-9]*/status 2>/dev/null); do
			now=$(awk '/^VmHWM:/ { print $2 }' "$status" 2>/dev/null || true)
			[ "${now:-0}" -le "$most" ] || most=$now
		done
		sleep 0.05
	done
	wait "$background"
	background=
	printf '%-30s %5s MB\n' "gpt_finetune${how:-, all weights}" "$((most / 1024))"
done

echo "== decode, in turns, and the adapter's share of its base's speed"
as_user "$("$bin/pg_config" --pkglibdir)/gpt2_engine" bench --model "$root/models/m124" \
	--adapter adapter1 --packs "$root/packs" --format q8 2>/dev/null | grep decode
