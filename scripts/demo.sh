#!/bin/sh
# demo.sh: a private PostgreSQL cluster in a temporary place, with this extension and 200 support
# tickets that the demo model summarizes.  No existing cluster is touched; the server stays up
# until it is stopped with the command printed at the end.
set -eu
cd "$(dirname "$0")/.."
scripts/setup.sh demo
. scripts/lib.sh

echo "Building ..."
make -s -j2 PG_CONFIG="$PG_CONFIG" all >/dev/null
root=$(mktemp -d "${TMPDIR:-/tmp}/gpt2-demo.XXXXXX")
chmod 755 "$root"
bin=$(scripts/private_install.sh "$root/pg")
cp models/demo/tickets.sql scripts/demo.sql "$root/"
mkdir "$root/run"
own "$root"

cd "$root"
echo "Starting a private server in $root ..."
as_user "$bin/initdb" -D "$root/data" -U demo -A trust -E UTF8 --no-locale >/dev/null
as_user sh -c "cat >>'$root/data/postgresql.conf'" <<END
listen_addresses = ''
unix_socket_directories = '$root/run'
END
as_user "$bin/pg_ctl" -D "$root/data" -l "$root/server.log" -w -s start
as_user "$bin/psql" -X -q -h "$root/run" -U demo -d postgres -v ON_ERROR_STOP=1 -f demo.sql

as=
[ "$(id -u)" = 0 ] && as="runuser -u $server_user -- env -C $root "
cat <<END

Try it yourself (README's examples from the second on: extension and table are there):
    $as$bin/psql -h $root/run -U demo postgres
Stop and remove it:
    $as$bin/pg_ctl -D $root/data -m fast stop && rm -rf $root
END
