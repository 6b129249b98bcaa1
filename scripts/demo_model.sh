#!/bin/sh
# demo_model.sh: makes models/demo anew, with gpt_train in a private PostgreSQL cluster: an hour on
# two cores.  The model's files are replaced only where it is as good as evaluate.sql asks.
# ROWS and BAR: another number of rows to learn, and another bar, for trying it out; KEEP=FOLDER
# puts the model there instead.
set -eu
cd "$(dirname "$0")/.."
. scripts/lib.sh

keep=${KEEP:-models/demo}
root=$(mktemp -d "${TMPDIR:-/tmp}/gpt2-demo-model.XXXXXX")
chmod 755 "$root"
bin=$(scripts/private_install.sh "$root/pg")
top=$root/top
mkdir -p "$root/run" "$top/models"
cp -r models/demo "$top/models/"
own "$root"

stop() {
	as_user "$bin/pg_ctl" -D "$root/data" -m fast -s stop || true
	rm -rf "$root"
}
as_user "$bin/initdb" -D "$root/data" -U demo -A trust -E UTF8 --no-locale >/dev/null
trap stop EXIT
as_user sh -c "cat >>'$root/data/postgresql.conf'" <<END
listen_addresses = ''
unix_socket_directories = '$root/run'
gpt2.train_threads = $(nproc)
gpt2.weight_format = 'f32'
END
as_user "$bin/pg_ctl" -D "$root/data" -l "$root/server.log" -w -s start

psql() {
	as_user env -C "$top" "$bin/psql" -X -q -h "$root/run" -U demo -d postgres \
		-v ON_ERROR_STOP=1 -v model=demo_new "$@"
}
psql -c 'CREATE EXTENSION gpt2'
psql -v threads="$(nproc)" ${ROWS:+-v rows="$ROWS"} -f models/demo/train.sql
psql ${BAR:+-v bar="$BAR"} -f models/demo/evaluate.sql

mkdir -p "$keep"
for f in config.json generation_config.json tokenizer_config.json vocab.json merges.txt \
	model.safetensors training_log.csv; do
	cp "$root/data/gpt2_models/demo_new/$f" "$keep/"
	chmod 644 "$keep/$f"
done
echo "The model is in $keep."
