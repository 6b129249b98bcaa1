#!/bin/sh
# check_layers.sh: who may include what.  The engine and the kernels know nothing of PostgreSQL;
# PostgreSQL's side knows nothing of the engine but protocol*.h.
set -eu
bad=0
complain() { echo "layer check: $1" >&2; bad=1; }

pg='"(postgres|c|fmgr|miscadmin|funcapi|pgstat)\.h"|"(access|catalog|commands|executor|libpq|nodes|'
pg="$pg"'optimizer|parser|port|portability|postmaster|storage|tcop|utils)/'
if grep -nE "#include ($pg)" src/engine/*.[ch] src/train/*.[ch] kernels/* 2>/dev/null; then
	complain "the engine includes a header of PostgreSQL"
fi
if grep -n '#include ".*engine/' src/*.[ch] | grep -vE '"engine/protocol(_score|_train|_watch)?\.h"'; then
	complain "src/ includes more of the engine than protocol*.h"
fi
for f in src/engine/*.[ch]; do
	for h in $(sed -n 's/^#include "\([^"]*\)".*/\1/p' "$f"); do
		[ -e "src/engine/$h" ] || complain "$f includes \"$h\", which is not the engine's"
	done
done
for f in src/train/*.[ch]; do
	for h in $(sed -n 's/^#include "\([^"]*\)".*/\1/p' "$f"); do
		[ -e "src/engine/$h" ] || [ -e "src/train/$h" ] ||
			complain "$f includes \"$h\", which is neither the engine's nor training's"
	done
done
exit $bad
