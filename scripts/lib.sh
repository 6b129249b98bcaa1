# lib.sh: sourced by the other scripts.  PostgreSQL's server refuses to run as root, so as root
# everything that starts one runs as a user of its own, which is made here.

server_user=gpt2
pg_version_dir() { ls -d /usr/lib/postgresql/*/lib/pgxs 2>/dev/null | cut -d/ -f5 | sort -n | tail -n 1; }

# The pg_config to build with: the caller's, else that of the newest server with headers.
if [ -z "${PG_CONFIG:-}" ]; then
	v=$(pg_version_dir)
	if [ -n "$v" ] && [ -x "/usr/lib/postgresql/$v/bin/pg_config" ]; then
		PG_CONFIG=/usr/lib/postgresql/$v/bin/pg_config
	else
		PG_CONFIG=pg_config
	fi
fi
export PG_CONFIG

# as_user COMMAND...: runs it as the server's user (as root), or as oneself.
as_user() {
	if [ "$(id -u)" = 0 ]; then
		runuser -u "$server_user" -- "$@"
	else
		"$@"
	fi
}

# Makes the user, and gives it a directory.
own() {
	[ "$(id -u)" = 0 ] || return 0
	id "$server_user" >/dev/null 2>&1 ||
		useradd --system --user-group --home-dir /nonexistent --no-create-home \
			--shell /usr/sbin/nologin "$server_user"
	chown -R "$server_user" "$1"
}

# make_m124 FOLDER: GPT-2's 124M shape with random weights; its tokens are the 256 bytes, and names for the rest.
make_m124() {
	local vocabulary=$1/vocab.json
	build/gpt2_engine synth "$1" --sigma 0.05 --seed 1
	perl -e '
		my %p = map { $_ => 1 } (33 .. 126, 161 .. 172, 174 .. 255);
		my $next = 256;
		my @e = map { sprintf q("\u%04x": %d), $p{$_} ? $_ : $next++, $_ } (0 .. 255);
		push @e, map { qq("<$_>": $_) } (256 .. 50256);
		print "{", join(", ", @e), "}\n"' >"$vocabulary"
	echo '#version: 0.2' >"$1/merges.txt"
}
