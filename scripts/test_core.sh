#!/bin/bash
# test_core.sh DIRECTORY: PostgreSQL's own regression tests with GPT Batch nodes for the calls of
# all functions (gpt2.batch_everything), against the same without.  DIRECTORY is src/test/regress
# of the server's source, as `apt-get source postgresql-15` brings it; a neighbouring minor version
# will do.
#
# Plans are printed otherwise then, and functions that raise notices raise them earlier, so the
# results differ; what must not is which errors and warnings there are, and in which order.
set -u
[ $# = 1 ] && [ -f "$1/parallel_schedule" ] || { sed -n '2,5s/^# //p' "$0"; exit 2; }
suite=$(cd "$1" && pwd)
cd "$(dirname "$0")/.."
. scripts/lib.sh

root=$(mktemp -d "${TMPDIR:-/tmp}/gpt2-core.XXXXXX")
chmod 755 "$root"
trap 'rm -rf "$root"' EXIT
bin=$(scripts/private_install.sh "$root/pg") || exit 1

# run_suite NAME SETTING...: leaves results, and the server's log, in $root/NAME.
run_suite() {
	local name=$1 dir=$root/$1
	shift
	cp -r "$suite" "$dir"
	${CC:-gcc} -O1 -shared -fPIC -w -I"$("$PG_CONFIG" --includedir-server)" "$dir/regress.c" \
		-o "$dir/regress.so" || return 1
	cp "$("$PG_CONFIG" --pkglibdir)"/{refint,autoinc}.so "$dir/"
	printf '%s\n' "$@" >"$dir/settings"
	own "$root"
	(cd "$dir" && as_user "$("$PG_CONFIG" --pkglibdir)/pgxs/src/test/regress/pg_regress" \
		--inputdir=. --outputdir="$dir/out" --dlpath="$dir" --bindir="$bin" \
		--temp-instance="$dir/instance" --temp-config=settings --schedule=parallel_schedule \
		--max-concurrent-tests=20 --no-locale --encoding=UTF8 >"$dir/log" 2>&1)
	grep -cE '(^| )ok ' "$dir/log" | sed "s/^/$name: tests that print what they did: /"
}

run_suite without 'jit = off'
run_suite with 'jit = off' "shared_preload_libraries = 'gpt2'" 'gpt2.batch_everything = on'
[ -d "$root/with/out/results" ] || { cat "$root"/*/log; exit 1; }

status=0
for f in "$root"/without/out/results/*.out; do
	name=$(basename "$f")
	if ! diff <(grep -aE '^(ERROR|WARNING|FATAL|PANIC)' "$f") \
		<(grep -aE '^(ERROR|WARNING|FATAL|PANIC)' "$root/with/out/results/$name"); then
		echo "FAIL $name: other errors or warnings"
		status=1
	fi
done
if grep -aE 'terminated by signal|PANIC|not closed|leak:' "$root/with/out/log/postmaster.log"; then
	echo 'FAIL: the server crashed, or leaks'
	status=1
fi
grep -alE 'GPT Batch' "$root"/with/out/results/*.out | wc -l |
	sed 's/^/files that show a GPT Batch: /'
exit $status
