#!/bin/sh
# bench_peers.sh: what `make bench-peers` does: this engine beside llama.cpp, CTranslate2 and
# PyTorch on one machine, on one model of GPT-2's 124M shape with random weights.  The peers come
# from PyPI into an environment of their own (build/peers; llama.cpp is compiled: ten minutes, once).
set -eu
cd "$(dirname "$0")/.."
make -s -j2 all
peers=build/peers
if [ ! -e "$peers/ready" ]; then
	python3 -m venv "$peers/venv"
	"$peers/venv/bin/pip" install --quiet torch transformers ctranslate2 gguf safetensors numpy
	CMAKE_ARGS=-DGGML_NATIVE=ON "$peers/venv/bin/pip" install --quiet llama-cpp-python
	touch "$peers/ready"
fi
[ -d "$peers/m124" ] || build/gpt2_engine synth "$peers/m124" --sigma 0.05 --seed 1
exec "$peers/venv/bin/python" scripts/bench_peers.py "$peers" "$@"
