#!/bin/bash
# test_server.sh: the tests that need a PostgreSQL server (pg_regress, TAP, the documentation's
# examples), in a private copy of the installation, as an ordinary user.
set -u
cd "$(dirname "$0")/.."
. scripts/lib.sh
models=$(cd ../shared/models 2>/dev/null && pwd)

root=$(mktemp -d "${TMPDIR:-/tmp}/gpt2-test.XXXXXX")
chmod 755 "$root"
trap 'rm -rf "$root"' EXIT
bin=$(scripts/private_install.sh "$root/pg") || exit 1
tree=$root/tree
mkdir "$tree"
cp -r Makefile *.mk gpt2.control src sql test expected scripts models docs README.md build "$tree/" \
	2>/dev/null
own "$root"
cd "$tree" || exit 1

export PG_CONFIG=$bin/pg_config
export PATH="$bin:$PATH"
export GPT2_SHARED_MODELS="$models"
export PERL5LIB="$($PG_CONFIG --pkglibdir)/pgxs/src/test/perl:$tree/test/t${PERL5LIB:+:$PERL5LIB}"
status=0
as_user env PATH="$PATH" PERL5LIB="$PERL5LIB" PG_CONFIG="$PG_CONFIG" \
	GPT2_SHARED_MODELS="$GPT2_SHARED_MODELS" scripts/test_server_parts.sh || status=1
exit $status
