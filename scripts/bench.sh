#!/bin/bash
# bench.sh: what `make bench` prints: the engine against the machine's limits on a model of GPT-2's
# 124M shape (random weights), and what SQL adds.  Takes about fifteen minutes; quiet machines only.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh demo
. scripts/bench_server.sh

machine
echo "== products (f32: against OpenBLAS where libopenblas-dev is installed)"
make -s bench-kernels
for format in q8 q4 bf16 f32; do
	build/bench/bench_kernels "$(nproc)" auto $format
done
make_m124 "$root/models/m124"
# The embedding outweighs all else, so that its texts repeat themselves.
build/gpt2_engine synth "$root/repeats" --sigma 0.02 --embed-sigma 0.5 --seed 1
for format in q8 q4 bf16 f32; do
	echo "== engine, 124M shape, $format"
	build/gpt2_engine bench --model "$root/models/m124" --packs "$root/packs" --format $format 2>/dev/null |
		grep -v repeats
	build/gpt2_engine bench --model "$root/repeats" --packs "$root/packs" --format $format \
		2>/dev/null | grep repeats
done

echo "== through SQL, demo model"
cp scripts/bench.sql "$root/"
start_server </dev/null
as_user "$bin/psql" -Xq -v ON_ERROR_STOP=1 "$conninfo" -f bench.sql
engine=$(psql -c 'SELECT engine_pid FROM gpt_info()')
sed -n 's/^VmRSS:[[:space:]]*/engine, resident (demo model loaded): /p' "/proc/$engine/status"

echo "== the first query after a start with gpt2.preload_models, 124M shape"
as_user sh -c "cat >>'$root/data/postgresql.conf'" <<END
shared_preload_libraries = 'gpt2'
gpt2.preload_models = 'm124'
gpt2.model = 'm124'
gpt2.nice = 0
END
as_user "$bin/pg_ctl" -D "$root/data" -l "$root/server.log" -m fast -w -s restart
until [ "$(psql -c "SELECT state FROM gpt_models WHERE name = 'm124'")" = loaded ]; do sleep 0.1; done
for i in 1 2 3 4 5 6 7 8 9 10; do
	psql -c '\timing on' -c "SELECT length(gpt_generate('$i', 1, options => '{\"cache\": false}'))" |
		sed -n 's/^Time: \([0-9.]*\) ms.*/\1/p'
done >"$root/times"
printf 'one token, each in a new session: first %s ms, second %s ms, tenth %s ms\n' \
	$(sed -n '1p; 2p; 10p' "$root/times")
