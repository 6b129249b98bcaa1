#!/bin/bash
# bench_select.sh FOLDER FORMAT THREADS ROWS [DEVICE]: rows per second of one SELECT over a table in
# which every row has a prompt of 64 tokens and gets 32 new ones; for bench_peers.py and bench_gpu.sh.
# FOLDER holds the model, m124, whose tokens are bytes.  DEVICE: gpt2.device (cpu).
set -euo pipefail
cd "$(dirname "$0")/.."
folder=$(realpath "$1")
device=${5:-cpu}
. scripts/bench_server.sh

cp -r "$folder/m124" "$root/models/"
start_server <<END
gpt2.weight_format = '$2'
gpt2.threads = $3
gpt2.device = '$device'
gpt2.nice = 0
session_preload_libraries = 'gpt2'
gpt2.model = 'm124'
END
psql -c 'CREATE EXTENSION gpt2'
in_flight=64
[ "$device" = cpu ] || in_flight=1024
took=$(seconds "$(rows_query 64 32 "$4")" "SET gpt2.batch_rows = $in_flight")
echo "$(calc "$4 / $took")"
