#!/bin/sh
# run_fuzz.sh DIRECTORY SECONDS: runs each fuzzer of DIRECTORY for so long, JOBS at a time (as many as
# processors), starting from test/fuzz/corpus/<name>; what it finds is kept beside the programs.
set -u

if [ "$1" != --one ]; then
	for program in "$1"/fuzz_*; do
		case $program in *.log | *.d) continue ;; esac
		printf '%s\n' "$program"
	done | xargs -n 1 -P "${JOBS:-$(nproc)}" "$0" --one "$2"
	exit
fi

seconds=$2
dir=${3%/*}
name=${3##*/fuzz_}
mkdir -p "$dir/found/$name" "$dir/corpus/$name"
if "$3" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=3000 -print_final_stats=1 \
	-artifact_prefix="$dir/found/$name/" "$dir/corpus/$name" \
	$(ls -d "test/fuzz/corpus/$name" 2>/dev/null) >"$dir/$name.log" 2>&1; then
	echo "ok   fuzz_$name: $(sed -n 's/^stat::number_of_executed_units: *//p' "$dir/$name.log") runs"
else
	tail -n 40 "$dir/$name.log"
	echo "FAIL fuzz_$name (see $dir/found/$name)"
	exit 1
fi
