#!/bin/sh
# setup.sh [demo|test]: installs the Debian/Ubuntu packages that are missing, as root or through
# sudo; otherwise prints the command that would.  Prints nothing when all is there.
set -eu

what=${1:-demo}
build="gcc make pkg-config libc6-dev libcjson-dev libpcre2-dev libutf8proc-dev libssl-dev"
tests="g++ pgbouncer libpq-dev clang libclang-rt-dev libcmocka-dev libsimde-dev libipc-run-perl libtest-simple-perl perl git python3-venv"

if ! command -v dpkg-query >/dev/null; then
	echo "setup.sh: this is not a Debian or Ubuntu system." >&2
	echo "Install a C compiler, make, PostgreSQL 13 or later with its server headers (PGXS)," >&2
	echo "cJSON, PCRE2 (8 bit), utf8proc and OpenSSL with their headers, and run make again." >&2
	exit 1
fi

# The server version: the newest whose headers are installed, else the system's own.
version=$(ls -d /usr/lib/postgresql/*/lib/pgxs/src/makefiles/pgxs.mk 2>/dev/null |
	cut -d/ -f5 | sort -n | tail -n 1)
if [ -z "$version" ]; then
	version=$(ls -d /usr/lib/postgresql/*/bin/postgres 2>/dev/null |
		cut -d/ -f5 | sort -n | tail -n 1)
fi
if [ -z "$version" ]; then
	version=$(apt-cache depends postgresql 2>/dev/null |
		sed -n 's/.*Depends: postgresql-\([0-9][0-9]*\)$/\1/p' | head -n 1)
fi
version=${version:-15}

packages="$build postgresql-$version postgresql-server-dev-$version"
[ "$what" = test ] && packages="$packages $tests postgresql-$version-cron"

missing=
for p in $packages; do
	state=$(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null || true)
	[ "$state" = installed ] || missing="$missing $p"
done
[ -n "$missing" ] || exit 0

install="apt-get install -y --no-install-recommends$missing"
if [ "$(id -u)" = 0 ]; then
	run=
elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
	run=sudo
elif command -v sudo >/dev/null && [ -t 0 ]; then
	run=sudo
else
	echo "Packages are missing. Run this as root, then try again:" >&2
	echo "    apt-get update && $install" >&2
	exit 1
fi
echo "Installing:$missing"
export DEBIAN_FRONTEND=noninteractive
$run apt-get update -qq
$run $install >/dev/null
