#!/bin/bash
# check_transformers.sh [--if-possible]: trained models, loaded by Hugging Face's transformers and an
# adapter by PEFT, against the engine (TAP 061).  Both come from PyPI with PyTorch, 6 GB and two minutes,
# into a folder that goes at the end; with GPT2_TEST_PYTHON, a Python that has them, from nowhere.
# --if-possible: without room or PyPI the test is skipped.
set -u
cd "$(dirname "$0")/.."
. scripts/lib.sh

skip() {
	echo "check_transformers.sh: $1"
	[ "${2:-}" = --if-possible ] && echo "skipped: trained models in transformers and PEFT" && exit 0
	exit 1
}

if [ -z "${GPT2_TEST_PYTHON:-}" ]; then
	root=$(mktemp -d "${TMPDIR:-/tmp}/gpt2-transformers.XXXXXX")
	trap 'rm -rf "$root"' EXIT
	# The server's user reads it, and the Python below it: the system's.
	chmod 755 "$root"
	[ "$(df -Pm "$root" | awk 'NR == 2 { print $4 }')" -ge 12000 ] ||
		skip "12 GB are needed in $root" "${1:-}"
	python=$root/bin/python
	/usr/bin/python3 -m venv "$root" &&
		timeout 1200 nice "$python" -m pip install --quiet --no-cache-dir --no-compile \
			-r test/vectors/requirements.txt ||
		skip "the packages of test/vectors/requirements.txt could not be installed" "${1:-}"
	export GPT2_TEST_PYTHON=$python
fi
make -s -j"${JOBS:-2}" PG_CONFIG="$PG_CONFIG" all
scripts/test_server.sh test/t/061_train_transformers.pl
