#!/bin/bash
# bench_adapters.sh: what `make bench-adapters` prints: decoding with LoRA adapters that stay beside
# their base, against the base alone, and what they take of memory, on GPT-2's 124M shape in q8, made by
# gpt_finetune in a private installation.  Takes four minutes; quiet machines only.
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

echo "== decode, in turns, and the adapter's share of its base's speed"
as_user "$("$bin/pg_config" --pkglibdir)/gpt2_engine" bench --model "$root/models/m124" \
	--adapter adapter1 --packs "$root/packs" --format q8 2>/dev/null | grep decode
