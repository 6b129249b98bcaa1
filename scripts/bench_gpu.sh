#!/bin/bash
# bench_gpu.sh PROGRAM [OPTION...]: what `make bench-gpu` prints, on a machine with a GPU: the back end
# beside its limits and cuBLASLt (PROGRAM, build/gpu/bench_gpu), other programs on the same GPU, and one
# SELECT over 10,000 rows.  What is not installed is left out, and a line says so.  Twenty minutes at most;
# nothing outside the checkout is needed, or left there.
#
# BENCH_GPU_PARTS (device peers select): which of them.
# PYTHON: one with torch and transformers, or llama-cpp-python; build/peers/venv of make bench-peers else.
set -uo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh
parts=" ${BENCH_GPU_PARTS:-device peers select} "
failed=0

# wants PART: whether it is asked for.
wants() {
	case $parts in *" $1 "*) ;; *) return 1 ;; esac
}

# limited SECONDS COMMAND...
limited() {
	timeout "$@" && return
	echo "FAIL ${*:2}: exit status $?"
	failed=1
}

if wants device; then
	limited 420 "$@"
fi

if wants peers; then
	python=${PYTHON:-build/peers/venv/bin/python}
	[ -x "$python" ] || python=$(command -v "${PYTHON:-python3}")
	printf '\n'
	if [ -n "$python" ]; then
		limited 300 "$python" scripts/bench_gpu_peers.py build/gpu --seconds 240
	else
		echo "skipped: other programs: no Python"
	fi
fi

if wants select; then
	printf '\n'
	if [ -x "$("$PG_CONFIG" --bindir 2>/dev/null)/initdb" ] && [ -e "$("$PG_CONFIG" --pgxs)" ]; then
		mkdir -p build/gpu
		[ -e build/gpu/m124/merges.txt ] || { make -s build/gpt2_engine && make_m124 build/gpu/m124; }
		for format in bf16 q8; do
			echo "a SELECT over 10,000 rows, prompts of 64 tokens, 32 new ones, 124M, $format: rows/s"
			limited 240 scripts/bench_select.sh build/gpu "$format" "$(nproc)" 10000 cuda
		done
	else
		echo "skipped: a SELECT over 10,000 rows: no PostgreSQL server with its headers"
	fi
fi
exit $failed
