# bench_server.sh: sourced by the benchmarks that need a server: a private
# installation and a cluster in a temporary folder of their own, $root, which go at exit.  All runs as
# the server's user in $root, without a caller's settings.
. scripts/lib.sh
make -s -j2 PG_CONFIG="$PG_CONFIG" all

root=$(mktemp -d "${TMPDIR:-/tmp}/gpt2-bench.XXXXXX")
chmod 755 "$root"
conninfo="host=$root/run user=bench dbname=postgres"
bin=
background=	# the process id of a load, to be ended too
stop_bench() {
	[ -z "$background" ] || kill "$background" 2>/dev/null || true
	[ -z "$bin" ] || as_user "$bin/pg_ctl" -D "$root/data" -m fast -s stop 2>/dev/null || true
	rm -rf "$root"
}
trap stop_bench EXIT

bin=$(scripts/private_install.sh "$root/pg")
mkdir "$root/run" "$root/models"

calc() { awk "BEGIN { printf \"%.${2:-2}f\", $1 }"; }
psql() {
	as_user "$bin/psql" -XAtq -v ON_ERROR_STOP=1 "$conninfo" -c 'SET client_min_messages = warning' \
		"$@"
}

# What a reader of figures must know.
machine() {
	echo "== machine"
	lscpu | sed -n 's/^Model name: */cpu      /p; s/^CPU(s): */cpus     /p'
	sed -n 's/^MemTotal: */memory   /p' /proc/meminfo
	uptime | sed 's/.*load/load    /'
	"$PG_CONFIG" --version | sed 's/^/server   /'
}

# start_server <SETTINGS: a new cluster with the extension; the working directory becomes $root.
start_server() {
	cat >"$root/settings" <<END
listen_addresses = ''
unix_socket_directories = '$root/run'
gpt2.model_path = '$root/models, \$sharedir/gpt2/models'
gpt2.pack_directory = '$root/packs'
END
	cat >>"$root/settings"
	own "$root"
	cd "$root"
	as_user "$bin/initdb" -D "$root/data" -U bench -A trust -E UTF8 --no-locale >/dev/null
	as_user sh -c "cat '$root/settings' >>'$root/data/postgresql.conf'"
	as_user "$bin/pg_ctl" -D "$root/data" -l "$root/server.log" -w -s start
}

# seconds STATEMENT [SETTING]: how long it takes, in a session that is connected to the engine.
seconds() {
	psql -c "SELECT length(gpt_generate('x', 1))" -c "${2:-SELECT}" -c '\timing on' -c "$1" |
		sed -n 's/^Time: \([0-9.]*\) ms.*/\1/p' | awk '{ print $1 / 1000 }'
}

# sample_memory PID SECONDS: a process's anonymous memory, "seconds kB" each 2 s for so many seconds or
# until the process ends: weights are mapped and shared.  KV blocks come and go, so a single reading
# says little.
sample_memory() {
	SECONDS=0
	while [ "$SECONDS" -lt "$2" ] && [ -e "/proc/$1" ]; do
		sed -n "s/^RssAnon:[[:space:]]*\([0-9]*\) kB/$SECONDS \1/p" "/proc/$1/status" 2>/dev/null || true
		sleep 2
	done
}
# mean_memory FROM TO <SAMPLES: their mean from one second on up to another.
mean_memory() {
	awk -v from="$1" -v to="$2" \
		'$1 >= from && $1 < to { sum += $2; n++ } END { printf "%.0f", n ? sum / n : 0 }'
}

# rows_query PROMPT NEW ROWS: generates NEW tokens in each of ROWS rows, whose prompts of PROMPT tokens
# (of a model whose tokens are bytes) have no prefix in common.
rows_query() {
	echo "SELECT count(gpt_generate(p, $2, options => '{\"cache\": false}')) FROM (
		SELECT left(repeat(md5(i::text), 3), $1) AS p
		FROM generate_series(1, $3) AS i OFFSET 0) AS q"
}
