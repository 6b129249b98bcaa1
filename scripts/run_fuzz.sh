#!/bin/sh
# run_fuzz.sh DIRECTORY SECONDS: runs each fuzzer of DIRECTORY for so long, two at a time, starting
# from test/fuzz/corpus/<name>; what it finds is kept beside the programs.
set -u
dir=$1
seconds=$2

one() {
	name=${1##*/fuzz_}
	mkdir -p "$dir/found/$name" "$dir/corpus/$name"
	if "$1" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=3000 -print_final_stats=1 \
		-artifact_prefix="$dir/found/$name/" "$dir/corpus/$name" \
		$(ls -d "test/fuzz/corpus/$name" 2>/dev/null) >"$dir/$name.log" 2>&1; then
		echo "ok   fuzz_$name: $(sed -n 's/^stat::number_of_executed_units: *//p' "$dir/$name.log") runs"
	else
		tail -n 40 "$dir/$name.log"
		echo "FAIL fuzz_$name (see $dir/found/$name)"
		touch "$dir/failed"
	fi
}

rm -f "$dir/failed"
for program in "$dir"/fuzz_*; do
	case $program in *.log | *.d) continue ;; esac
	one "$program" &
	first=${first:-$!}
	if [ -n "${second:-}" ]; then
		wait
		first= second=
	else
		second=$!
	fi
done
wait
[ ! -e "$dir/failed" ]
