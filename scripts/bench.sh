#!/bin/sh
# bench.sh: what `make bench` prints: the engine against the machine's limits on a model of GPT-2's
# 124M shape (random weights), and what SQL adds.  Takes about fifteen minutes; quiet machines only.
set -eu
cd "$(dirname "$0")/.."
scripts/setup.sh demo
. scripts/lib.sh
make -s -j2 PG_CONFIG="$PG_CONFIG" all

root=$(mktemp -d "${TMPDIR:-/tmp}/gpt2-bench.XXXXXX")
chmod 755 "$root"
bin=
stop() {
	[ -z "$bin" ] || as_user "$bin/pg_ctl" -D "$root/data" -m fast -s stop 2>/dev/null || true
	rm -rf "$root"
}
trap stop EXIT

echo "== machine"
lscpu | sed -n 's/^Model name: */cpu      /p; s/^CPU(s): */cpus     /p'
uptime | sed 's/.*load/load    /'
echo "== products (f32: against OpenBLAS where libopenblas-dev is installed)"
make -s bench-kernels
for format in q8 q4 bf16 f32; do
	build/bench/bench_kernels "$(nproc)" auto $format
done
build/gpt2_engine synth "$root/m124" --sigma 0.05 --seed 1
# The embedding outweighs all else, so that its texts repeat themselves.
build/gpt2_engine synth "$root/repeats" --sigma 0.02 --embed-sigma 0.5 --seed 1
for format in q8 q4 bf16 f32; do
	echo "== engine, 124M shape, $format"
	build/gpt2_engine bench --model "$root/m124" --packs "$root/packs" --format $format 2>/dev/null |
		grep -v repeats
	build/gpt2_engine bench --model "$root/repeats" --packs "$root/packs" --format $format \
		2>/dev/null | grep repeats
done

echo "== through SQL, demo model"
bin=$(scripts/private_install.sh "$root/pg")
mkdir "$root/run"
cp scripts/bench.sql "$root/"
own "$root"
cd "$root"
as_user "$bin/initdb" -D "$root/data" -U bench -A trust -E UTF8 --no-locale >/dev/null
as_user "$bin/pg_ctl" -D "$root/data" -l "$root/server.log" -w -s \
	-o "-c listen_addresses='' -c unix_socket_directories='$root/run'" start
as_user "$bin/psql" -X -q -h "$root/run" -U bench -d postgres -v ON_ERROR_STOP=1 -f bench.sql
engine=$(as_user "$bin/psql" -XAt -h "$root/run" -U bench -d postgres -c 'SELECT engine_pid FROM gpt_info()')
sed -n 's/^VmRSS:[[:space:]]*/engine, resident (demo model loaded): /p' "/proc/$engine/status"
