#!/bin/sh
# run_unit.sh MODELS PROGRAM...: runs unit tests (cmocka); one line for each program, the whole
# output of those that fail.  MODELS: folder of real models' data, used where it is there.
set -u
models=$1
shift
[ -d "$models" ] && export GPT2_SHARED_MODELS="$(cd "$models" && pwd)"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
failed=0
for program in "$@"; do
	name=${program##*/}
	if "$program" >"$log" 2>&1; then
		n=$(sed -n 's/^\[  PASSED  \] \([0-9]*\) test.*/\1/p' "$log" | tail -n 1)
		skipped=$(grep -c '^\[  SKIPPED \] [^0-9]' "$log")
		echo "ok   $name: ${n:-0} passed, $skipped skipped"
	else
		cat "$log"
		n=$(sed -n 's/^ *\([0-9][0-9]*\) FAILED TEST.*/\1/p' "$log" | tail -n 1)
		echo "FAIL $name: ${n:-1} failed"
		failed=1
	fi
done
exit $failed
