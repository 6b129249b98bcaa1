#!/bin/bash
# bench_select.sh FOLDER FORMAT THREADS ROWS: rows per second of one SELECT over a table in which
# every row has a prompt of 64 tokens and gets 32 new ones; for bench_peers.py.  FOLDER holds the
# model, m124, whose tokens are bytes.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=$(realpath "$1")
. scripts/bench_server.sh

cp -r "$folder/m124" "$root/models/"
start_server <<END
gpt2.weight_format = '$2'
gpt2.threads = $3
gpt2.nice = 0
session_preload_libraries = 'gpt2'
gpt2.model = 'm124'
END
psql -c 'CREATE EXTENSION gpt2'
calc "$4 / $(seconds "$(rows_query 64 32 "$4")")"
