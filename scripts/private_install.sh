#!/bin/sh
# private_install.sh DIRECTORY: a private copy of the installed PostgreSQL with this extension in
# it.  Nothing outside of DIRECTORY is changed, so no privilege is needed and no server notices.
#
# PostgreSQL finds its library and share directories relative to its own program file; the programs
# are copied, everything else is links.  Prints the directory of the programs.
set -eu

root=$1
pg_config=${PG_CONFIG:-pg_config}
bin=$($pg_config --bindir)
lib=$($pg_config --pkglibdir)
share=$($pg_config --sharedir)
include=$($pg_config --includedir-server)

mkdir -p "$root$bin" "$root$lib" "$root$share/extension"
for f in "$bin"/*; do
	[ -e "$root$bin/${f##*/}" ] || cp "$f" "$root$bin/"
done
link_entries() {
	for f in "$1"/*; do
		case ${f##*/} in extension | gpt2*) continue ;; esac
		[ -e "$root$f" ] || ln -s "$f" "$root$f"
	done
}
link_entries "$lib"
link_entries "$share"
link_entries "$share/extension"
mkdir -p "$root${include%/*}"
[ -e "$root$include" ] || ln -s "$include" "$root$include"
make -s install DESTDIR="$root" PG_CONFIG="$pg_config" >/dev/null
echo "$root$bin"
