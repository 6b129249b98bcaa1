#!/bin/bash
# test_server.sh [PART...]: the tests that need a PostgreSQL server (pg_regress, TAP, the documentation's
# examples), or some of them ("regress", "examples", test/t/NAME.pl), in private copies of the
# installation, as an ordinary user.  JOBS (as many as there are processors) run at a time; each has a
# copy of its own, as some tests change the installation.
set -u
cd "$(dirname "$0")/.."
. scripts/lib.sh
models=$(cd ../shared/models 2>/dev/null && pwd)

root=$(mktemp -d "${TMPDIR:-/tmp}/gpt2-test.XXXXXX")
chmod 755 "$root"
trap 'rm -rf "$root"' EXIT
JOBS=${JOBS:-$(nproc)}
bin=$(scripts/private_install.sh "$root/pg0") || exit 1
for ((i = 1; i < JOBS; i++)); do
	cp -a "$root/pg0" "$root/pg$i" || exit 1
done
tree=$root/tree
mkdir "$tree"
cp -r Makefile *.mk gpt2.control src sql test expected scripts models docs README.md build "$tree/" \
	2>/dev/null
own "$root"
cd "$tree" || exit 1

export PERL5LIB="$("$bin/pg_config" --pkglibdir)/pgxs/src/test/perl:$tree/test/t${PERL5LIB:+:$PERL5LIB}"
as_user env PERL5LIB="$PERL5LIB" GPT2_SHARED_MODELS="$models" JOBS="$JOBS" \
	INSTALLATIONS="$root/pg" BINDIR="${bin#"$root/pg0"}" scripts/test_server_parts.sh "$@"
