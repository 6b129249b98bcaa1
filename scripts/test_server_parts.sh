#!/bin/bash
# test_server_parts.sh [PART...]: called by test_server.sh in the copy of the tree, as an ordinary user.
# JOBS parts run at a time, each with servers of its own; much of their time is waiting.  The programs
# of installation N, from 0 to JOBS - 1, are in $INSTALLATIONS${N}$BINDIR.  It calls itself for each
# part, with $INSTALLATION = N: "regress", "examples" or a file of TAP.
set -u
out=$PWD/output

# pg_regress against a temporary server of its own.
regress() {
	"$PG_REGRESS" --inputdir=test --outputdir=. --bindir="$bin" \
		--temp-instance="$out/regress_instance" --temp-config=test/regress.conf --encoding=UTF8 \
		--no-locale --dbname=gpt2_regression \
		$(ls test/sql/*.sql | xargs -n1 basename | sed 's/\.sql$//') && return
	cat regression.diffs 2>/dev/null
	return 1
}

tap() {
	local log=$out/$(basename "$1" .pl).log started=$SECONDS
	export TESTDIR=$out TESTLOGDIR=$out/log TESTDATADIR=$out/data
	if prove -I test/t "$1" >"$log" 2>&1; then
		echo "ok   $1: $(sed -n 's/.*\(skipped: .*\)/\1/p; s/.*Tests=\([1-9][0-9]*\).*/\1 tests/p' "$log"),\
 $((SECONDS - started)) s"
		# figures that a test wants to be seen
		sed -n 's/^# result: /     /p' "$log"
	else
		cat "$log"
		tail -n 60 "$out"/log/regress_log_"$(basename "$1" .pl)" \
			"$out"/tmp_check/log/regress_log_"$(basename "$1" .pl)" 2>/dev/null
		echo "FAIL $1"
		return 1
	fi
}

# Every SQL example of README and docs.
examples() {
	local status=0
	"$bin/initdb" -D "$out/examples" -A trust -E UTF8 --no-locale >"$out/initdb.log" &&
		"$bin/pg_ctl" -D "$out/examples" -l "$out/examples.log" -w -s \
			-o "-c listen_addresses='' -c unix_socket_directories='$out/run'" start || return 1
	PGHOST=$out/run PGDATABASE=postgres perl scripts/run_examples.pl README.md docs/*.md || status=1
	"$bin/pg_ctl" -D "$out/examples" -m fast -s stop || status=1
	return $status
}

# The longest first, so that it is not what all wait for at the end.
if [ -z "${INSTALLATION:-}" ]; then
	first=test/t/036_jobs_killed.pl
	mkdir -p "$out/run"
	[ $# != 0 ] || set -- "$first" regress $(ls test/t/*.pl | grep -vxF "$first") examples
	printf '%s\n' "$@" | xargs -n 1 -P "$JOBS" --process-slot-var=INSTALLATION "$0"
	exit
fi

bin=$INSTALLATIONS$INSTALLATION$BINDIR
export PATH="$bin:$PATH" PG_CONFIG=$bin/pg_config
export PG_REGRESS=${PG_REGRESS:-$("$PG_CONFIG" --pkglibdir)/pgxs/src/test/regress/pg_regress}
case $1 in
*.pl) part="tap $1" ;;
*) part=$1 ;;
esac
# What a part prints is shown at its end, in one piece.
text=$($part 2>&1)
status=$?
exec 9>"$out/lock"
flock 9
printf '%s\n' "$text"
exit $status
