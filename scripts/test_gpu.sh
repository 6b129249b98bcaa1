#!/bin/bash
# test_gpu.sh PROGRAM...: the tests of the CUDA back end on this machine's GPU; then the first of them
# under compute-sanitizer's racecheck and the last under all three checks, where that is installed and
# works on this machine.  All of it within GPU_TEST_SECONDS (440).
set -u
limit=${GPU_TEST_SECONDS:-440}
failed=0
log=$(mktemp)
trap 'rm -f "$log"' EXIT

# run NAME SECONDS COMMAND...: one line, and all that it said where it failed.
run() {
	local name=$1 most=$2 left=$((limit - SECONDS))
	shift 2
	[ "$most" -le "$left" ] || most=$left
	if [ "$most" -lt 1 ]; then
		echo "FAIL $name: no time left of $limit s"
	elif timeout "$most" "$@" >"$log" 2>&1; then
		echo "ok   $name: $SECONDS s so far"
		return
	elif grep -q 'Device not supported' "$log"; then
		echo "skipped: $name: not on this machine's device"
		return
	else
		cat "$log"
		echo "FAIL $name: $SECONDS s so far"
	fi
	failed=1
}

for program in "$@"; do
	run "${program##*/}" 200 "$program"
done
sanitizer=$(command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer 2>/dev/null)
if [ -z "$sanitizer" ]; then
	echo "skipped: compute-sanitizer is not installed"
	exit $failed
fi
checked() {
	run "${2##*/} under $1" 100 env GPT2_TEST_QUICK=1 "$sanitizer" --tool "$1" --error-exitcode 9 "$2"
}
checked racecheck "$1"
for tool in memcheck racecheck initcheck; do
	checked $tool "$program"
done
exit $failed
