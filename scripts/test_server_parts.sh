#!/bin/bash
# test_server_parts.sh: called by test_server.sh in the copy of the tree, as an ordinary user, with
# PATH, PG_CONFIG and PERL5LIB set.
set -u
status=0
pgxs=$("$PG_CONFIG" --pkglibdir)/pgxs
out=$PWD/output

mkdir -p "$out"

# pg_regress against a temporary server of its own.
tests=$(ls test/sql/*.sql | xargs -n1 basename | sed 's/\.sql$//')
"$pgxs/src/test/regress/pg_regress" --inputdir=test --outputdir=. \
	--bindir="$(dirname "$PG_CONFIG")" --temp-instance="$out/regress_instance" \
	--temp-config=test/regress.conf --encoding=UTF8 --no-locale --dbname=gpt2_regression \
	$tests || { status=1; cat regression.diffs 2>/dev/null; }

# TAP.
export TESTDIR=$out PG_REGRESS=$pgxs/src/test/regress/pg_regress PGPORT=65432
export TESTLOGDIR=$out/log TESTDATADIR=$out/data
for t in test/t/*.pl; do
	started=$SECONDS
	if prove -I test/t "$t" >"$out/prove.log" 2>&1; then
		n=$(sed -n 's/.*Tests=\([0-9]*\).*/\1/p' "$out/prove.log")
		echo "ok   $t: $n tests, $((SECONDS - started)) s"
	else
		cat "$out/prove.log"
		tail -n 60 "$out"/log/regress_log_"$(basename "$t" .pl)" 2>/dev/null
		echo "FAIL $t"
		status=1
	fi
done

# Every SQL example of README and docs, in a server of its own.
bin=$(dirname "$PG_CONFIG")
mkdir -p "$out/run"
"$bin/initdb" -D "$out/examples" -A trust -E UTF8 --no-locale >"$out/initdb.log" &&
	"$bin/pg_ctl" -D "$out/examples" -l "$out/examples.log" -w -s \
		-o "-c listen_addresses='' -c unix_socket_directories='$out/run'" start || status=1
PGHOST=$out/run PGDATABASE=postgres perl scripts/run_examples.pl README.md docs/*.md || status=1
"$bin/pg_ctl" -D "$out/examples" -m fast -s stop || status=1
exit $status
