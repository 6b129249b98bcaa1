#!/bin/sh
# test_gpu.sh PROGRAM...: the tests of the CUDA back end on this machine's GPU, then, where
# compute-sanitizer is there, the last of them under its three checks (some minutes in all).
set -u
failed=0
run() {
	name=$1
	shift
	if "$@"; then echo "ok   $name"; else echo "FAIL $name"; failed=1; fi
}
for program in "$@"; do
	run "${program##*/}" timeout 200 "$program"
done
sanitizer=$(command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer 2>/dev/null)
if [ -z "$sanitizer" ]; then
	echo "skipped: compute-sanitizer is not installed"
	exit $failed
fi
for tool in memcheck racecheck initcheck; do
	run "$tool" env GPT2_TEST_QUICK=1 timeout 100 "$sanitizer" --tool $tool --error-exitcode 9 "$program"
done
exit $failed
