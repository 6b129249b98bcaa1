#!/usr/bin/env python3
"""Makes a GPT-2 with outlier channels from another one, without changing what it computes in f32.

    make_outlier_model.py norms|values FROM TO [--factor 30] [--share 0.02] [--seed 1]

Real GPT-2 models have channels that are far larger than the others; a small model trained for a
short time has none, so formats with few bits look better on it than they are.
- norms: gain and bias of a layer norm are multiplied by the factor in a share of the channels, and
  the weights of the following matrix that read these channels are divided by it.
- values: the same with columns of V (and their biases) and the rows of c_proj that read them.
The copy is F32; each result differs from the original's by rounding only.  Needs Python alone.
"""

import argparse
import array
import json
import random
import shutil
import struct
import sys
from pathlib import Path

TYPES = {"F32": "f", "F16": "e"}


def read_model(path):
    """{name: (shape, array of floats)} of a safetensors file."""
    with open(path, "rb") as file:
        (size,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(size))
        data = file.read()
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        code = TYPES[entry["dtype"]]
        count = (end - begin) // struct.calcsize(code)
        tensors[name] = entry["shape"], array.array(
            "f", struct.unpack(f"<{count}{code}", data[begin:end]))
    return tensors


def write_model(path, tensors):
    header, at = {}, 0
    for name, (shape, values) in tensors.items():
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [at, at + 4 * len(values)]}
        at += 4 * len(values)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _, values in tensors.values():
            if sys.byteorder == "big":
                values.byteswap()
            values.tofile(file)


def scale(tensors, name, factor, rows=None, columns=None):
    """Multiplies rows or columns of a matrix [rows][columns], or elements of a vector."""
    shape, values = tensors[name]
    width = shape[-1]
    for row in rows if rows is not None else range(len(values) // width):
        for column in columns if columns is not None else range(width):
            values[row * width + column] *= factor


def pick(rng, width, share):
    return rng.sample(range(width), max(1, round(width * share)))


def norms(tensors, prefix, layer, rng, factor, share):
    for norm, matrix in (("ln_1", "attn.c_attn"), ("ln_2", "mlp.c_fc")):
        name = f"{prefix}h.{layer}."
        channels = pick(rng, tensors[f"{name}{norm}.weight"][0][0], share)
        scale(tensors, f"{name}{norm}.weight", factor, columns=channels)
        scale(tensors, f"{name}{norm}.bias", factor, columns=channels)
        scale(tensors, f"{name}{matrix}.weight", 1 / factor, rows=channels)


def values(tensors, prefix, layer, rng, factor, share):
    name = f"{prefix}h.{layer}.attn."
    width = tensors[f"{name}c_proj.weight"][0][0]
    channels = pick(rng, width, share)
    columns = [2 * width + channel for channel in channels]
    scale(tensors, f"{name}c_attn.weight", factor, columns=columns)
    scale(tensors, f"{name}c_attn.bias", factor, columns=columns)
    scale(tensors, f"{name}c_proj.weight", 1 / factor, rows=channels)


def main():
    parser = argparse.ArgumentParser(description="make a model with outlier channels")
    parser.add_argument("kind", choices=("norms", "values"))
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--factor", type=float, default=30)
    parser.add_argument("--share", type=float, default=0.02)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    tensors = read_model(args.source / "model.safetensors")
    prefix = "" if "wte.weight" in tensors else "transformer."
    rng = random.Random(args.seed)
    layers = json.loads((args.source / "config.json").read_text())["n_layer"]
    for layer in range(layers):
        globals()[args.kind](tensors, prefix, layer, rng, args.factor, args.share)
    args.target.mkdir(parents=True, exist_ok=True)
    for file in args.source.iterdir():
        if file.suffix in (".json", ".txt"):
            shutil.copyfile(file, args.target / file.name)
    write_model(args.target / "model.safetensors", tensors)


if __name__ == "__main__":
    main()
