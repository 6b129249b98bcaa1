#!/bin/sh
# build_clang.sh: builds engine and library with clang, warnings being errors, in a copy.
set -eu
. scripts/lib.sh
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
cp -r Makefile *.mk gpt2.control src sql "$copy/"
find "$copy" -name '*.o' -delete
make -s -C "$copy" -j2 CC=clang WERROR=-Werror PG_CONFIG="$PG_CONFIG" all
