#!/bin/sh
# demo_model.sh: makes models/demo anew, with gpt_train in a private PostgreSQL cluster: 20 minutes on
# two cores.  The model's files are replaced only where it is as good as evaluate.sql asks.
#
# WORK=FOLDER: where the cluster is; what was stopped there goes on.  ROWS, BAR: another number of
# rows to learn, another bar, for trying it out.  OUTPUT=FOLDER: puts the model there instead.
set -eu
cd "$(dirname "$0")/.."
. scripts/lib.sh

output=${OUTPUT:-models/demo}
root=${WORK:-$(mktemp -d "${TMPDIR:-/tmp}/gpt2-demo-model.XXXXXX")}
top=$root/top
made=$root/data/gpt2_models/demo_new
mkdir -p "$root/run" "$top/models"
chmod 755 "$root"
bin=$(scripts/private_install.sh "$root/pg")
cp -r models/demo "$top/models/"
own "$root"

finish() {
	status=$?
	as_user "$bin/pg_ctl" -D "$root/data" -m fast -s stop || true
	if [ "$status" = 0 ]; then
		rm -rf "$root"
	else
		echo "Not finished; it goes on with: WORK=$root make demo-model" >&2
	fi
}
[ -d "$root/data" ] ||
	as_user "$bin/initdb" -D "$root/data" -U demo -A trust -E UTF8 --no-locale >/dev/null
trap finish EXIT
trap 'exit 130' INT TERM
as_user "$bin/pg_ctl" -D "$root/data" -l "$root/server.log" -w -s start \
	-o "-c listen_addresses='' -c unix_socket_directories='$root/run'" \
	-o "-c gpt2.train_threads=$(nproc) -c gpt2.weight_format=f32"

psql() {
	as_user env -C "$top" "$bin/psql" -X -q -h "$root/run" -U demo -d postgres \
		-v ON_ERROR_STOP=1 -v model=demo_new "$@"
}
psql -c 'SET client_min_messages = warning' -c 'CREATE EXTENSION IF NOT EXISTS gpt2'
[ -d "$made" ] || psql -v threads="$(nproc)" ${ROWS:+-v rows="$ROWS"} -f models/demo/train.sql
psql ${BAR:+-v bar="$BAR"} -f models/demo/evaluate.sql

mkdir -p "$output"
for f in config.json generation_config.json tokenizer_config.json vocab.json merges.txt \
	model.safetensors; do
	cp "$made/$f" "$output/"
	chmod 644 "$output/$f"
done
echo "The model is in $output."
