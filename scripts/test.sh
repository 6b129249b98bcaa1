#!/bin/bash
# test.sh: all tests, one part after the other; the last line is "N passed, N failed".
# FUZZ_SECONDS (60; CI: 30) is the time for each fuzzer; 0 leaves fuzzing out.  STRESS_SECONDS (10) is
# that of each of the two runs of the stress test.  TRANSFORMERS=yes (CI) downloads transformers and
# loads trained models in it.  JOBS (as many as processors) is how much is compiled and tested at a time.
set -u
cd "$(dirname "$0")/.."
scripts/setup.sh test || exit 1
. scripts/lib.sh
export JOBS=${JOBS:-$(nproc)}
# For all targets below: what is compiled once serves them all.
export CUDA_ARCHS=all

passed=0
failed=0
failures=()
log=$(mktemp)
trap 'rm -f "$log"' EXIT

# part NAME COMMAND...: runs it, shows its output, and counts its lines "ok ..." and "FAIL ...";
# a part without such lines counts as one test.
part() {
	local name=$1 status ok bad TIMEFORMAT="== $1: %0R s (user %0U, system %0S)"
	shift
	echo "== $name"
	time "$@" 2>&1 | tee "$log"
	status=${PIPESTATUS[0]}
	ok=$(grep -cE '^(ok |# Subtest|test .*\.\.\. ok)' "$log")
	bad=$(grep -cE '^(FAIL |not ok |test .*\.\.\. FAILED)' "$log")
	[ "$ok" = 0 ] && [ "$bad" = 0 ] && { [ "$status" = 0 ] && ok=1 || bad=1; }
	[ "$status" != 0 ] && [ "$bad" = 0 ] && bad=1
	passed=$((passed + ok))
	failed=$((failed + bad))
	[ "$bad" = 0 ] || failures+=("$name")
	echo "== $name: $ok passed, $bad failed"
}

part "build with gcc, warnings are errors" \
	make -s -j"$JOBS" CC=gcc WERROR=-Werror CUDA=no PG_CONFIG="$PG_CONFIG" all
part "library with clang, warnings are errors" scripts/build_clang.sh
part "layers" scripts/check_layers.sh
if command -v nvcc >/dev/null || [ -x /usr/local/cuda/bin/nvcc ]; then
	part "CUDA kernels for every architecture, no register spilled" make -s -j"$JOBS" cuda
else
	echo "== CUDA: skipped, nvcc is not installed"
fi
part "unit tests" make -s -j"$JOBS" unit
part "unit tests with clang under sanitizers, warnings are errors" \
	env GPT2_TEST_QUICK=1 make -s -j"$JOBS" unit-sanitized WERROR=-Werror
part "engine with 32 clients, also under ThreadSanitizer" \
	make -s -j"$JOBS" stress STRESS_SECONDS="${STRESS_SECONDS:-10}"
if [ "${FUZZ_SECONDS:-60}" != 0 ]; then
	part "fuzzing, ${FUZZ_SECONDS:-60} s each" make -s -j"$JOBS" fuzz FUZZ_SECONDS="${FUZZ_SECONDS:-60}"
fi
if python3 -c 'import jsonschema' 2>/dev/null; then
	part "texts of 300 JSON schemas, by another validator" \
		python3 scripts/check_schemas.py --schemas 300
fi
part "SQL, faults, examples" scripts/test_server.sh
if [ "${TRANSFORMERS:-no}" = yes ]; then
	part "trained models in transformers and PEFT" scripts/check_transformers.sh --if-possible
else
	echo "== trained models in transformers and PEFT: skipped, make check-transformers downloads them"
fi

for name in "${failures[@]}"; do
	echo "failed: $name"
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
