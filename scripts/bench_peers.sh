#!/bin/sh
# bench_peers.sh: what `make bench-peers` does: this engine beside llama.cpp, CTranslate2 and
# PyTorch on one machine, on one model with random weights.  The peers come from PyPI into an
# environment of their own (build/peers; llama.cpp is compiled: ten minutes, once).
#
# PEERS_MODEL (m124): the shape, GPT-2's 124M, or xl, its 1.5B (20 GB of disk, 16 GB of memory).
# PEERS_ROUNDS (3).
# PEERS_FORMATS: those alone (q8,Q8_0,int8), as their engines name them.
set -eu
cd "$(dirname "$0")/.."
model=${PEERS_MODEL:-m124}
scripts/setup.sh demo
make -s -j2 all
peers=build/peers
if [ ! -e "$peers/ready" ]; then
	python3 -m venv "$peers/venv"
	"$peers/venv/bin/pip" install --quiet torch transformers ctranslate2 gguf safetensors numpy
	CMAKE_ARGS=-DGGML_NATIVE=ON "$peers/venv/bin/pip" install --quiet llama-cpp-python
	touch "$peers/ready"
fi
. scripts/lib.sh
if [ ! -d "$peers/$model" ]; then
	case $model in
	m124) make_m124 "$peers/m124" ;;
	xl) build/gpt2_engine synth "$peers/xl" --layer 48 --head 25 --embd 1600 --sigma 0.05 --seed 1 ;;
	esac
fi
exec "$peers/venv/bin/python" scripts/bench_peers.py "$peers" --model "$model" \
	--rounds "${PEERS_ROUNDS:-3}" --formats "${PEERS_FORMATS:-}"
