#!/bin/bash
# run_unit.sh MODELS PROGRAM...: runs unit tests (cmocka), JOBS at a time (as many as processors); one
# line for each program with its seconds, the whole output of those that fail.  MODELS: folder of real
# models' data, used where it is there.
set -u

# one PROGRAM: a program's output is kept in $logs and shown at once, behind a lock.
one() {
	local name=${1##*/} log=$logs/${1##*/} status took n skipped
	TIMEFORMAT='%1R s (user %1U, system %1S)'
	took=$({ time "$1" >"$log" 2>&1; } 2>&1)
	status=$?
	took=${took##*$'\n'}
	exec 9>"$logs/lock"
	flock 9
	if [ "$status" = 0 ]; then
		n=$(sed -n 's/^\[  PASSED  \] \([0-9]*\) test.*/\1/p' "$log" | tail -n 1)
		skipped=$(grep -c '^\[  SKIPPED \] [^0-9]' "$log")
		echo "ok   $name: ${n:-0} passed, $skipped skipped, $took"
	else
		cat "$log"
		n=$(sed -n 's/^ *\([0-9][0-9]*\) FAILED TEST.*/\1/p' "$log" | tail -n 1)
		echo "FAIL $name: ${n:-1} failed, $took"
		return 1
	fi
}

if [ "$1" = --one ]; then
	one "$2"
	exit
fi
models=$1
shift
[ -d "$models" ] && export GPT2_SHARED_MODELS="$(cd "$models" && pwd)"
logs=$(mktemp -d)
export logs
trap 'rm -rf "$logs"' EXIT
printf '%s\0' "$@" | xargs -0 -n 1 -P "${JOBS:-$(nproc)}" "$0" --one
