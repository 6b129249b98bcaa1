#!/bin/sh
# build_clang.sh: builds the library with clang, warnings being errors, in a copy.  The engine is built
# with clang for the sanitizers.
set -eu
. scripts/lib.sh
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
cp -r Makefile *.mk gpt2.control src sql "$copy/"
find "$copy" -name '*.o' -delete
make -s -C "$copy" -j"${JOBS:-$(nproc)}" CC=clang WERROR=-Werror PG_CONFIG="$PG_CONFIG" gpt2.so
