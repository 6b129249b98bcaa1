#!/usr/bin/env python3
"""Hugging Face folders with seeded random weights: byte for byte what g2_synth of
src/engine/synth.h writes.

The numbers are a function of (seed, tensor, element) alone, so that a test can make a model of
any size from a few integers, in C or in Python, and both sides know that they hold the same one
(hash_folder).  All arithmetic before the one multiplication is on integers, and that
multiplication is one IEEE single-precision product: no libm, nothing that a platform may round
its own way.

As a program: synth.py FOLDER key=value..., with the fields of Options (sigma=0.1 seed=7 ...).
"""

import dataclasses
import hashlib
import json
import os
import sys

import numpy as np

MASK32 = np.uint64(0xFFFFFFFF)
CHUNK = 1 << 16  # elements at a time: the working set stays in the cache

ACTIVATIONS = ("gelu_new", "gelu", "relu")  # in the order of g2_activation


@dataclasses.dataclass(frozen=True)
class Options:
    """The fields of g2_synth_options, by the same names."""

    n_layer: int
    n_embd: int
    n_head: int
    n_ff: int
    n_ctx: int
    n_vocab: int
    activation: str = "gelu_new"
    untied: bool = False
    prefix: bool = True
    sigma: float = 0.1
    seed: int = 0


def philox4x32(key, c0, c1, c2, c3):
    """Philox4x32-10: four uint32 arrays.  The counter's words are arrays or ints.

    Everything is held in uint64 and masked, because numpy has no widening 32-bit product.
    """
    shape = np.broadcast_shapes(*(np.shape(c) for c in (c0, c1, c2, c3)))
    r = [np.broadcast_to(np.asarray(c, dtype=np.uint64), shape) for c in (c0, c1, c2, c3)]
    k0, k1 = key & 0xFFFFFFFF, key >> 32
    for _ in range(10):
        p0 = np.uint64(0xD2511F53) * r[0]
        p1 = np.uint64(0xCD9E8D57) * r[2]
        r = [
            (p1 >> np.uint64(32)) ^ r[1] ^ np.uint64(k0),
            p1 & MASK32,
            (p0 >> np.uint64(32)) ^ r[3] ^ np.uint64(k1),
            p0 & MASK32,
        ]
        k0 = (k0 + 0x9E3779B9) & 0xFFFFFFFF
        k1 = (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return [w.astype(np.uint32) for w in r]


def check_philox():
    """Known answers of the authors' distribution (Random123, kat_vectors)."""
    ones = 0xFFFFFFFF
    for key, counter, want in (
        (0, (0, 0, 0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((1 << 64) - 1, (ones,) * 4, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    ):
        got = tuple(int(w) for w in philox4x32(key, *counter))
        if got != want:
            raise AssertionError(f"philox: {got} is not {want}")


def values(seed, tensor, n, sigma, first=0):
    """Elements first .. first+n-1 of a tensor, float32 (see synth.h for the definition)."""
    scale = np.float32(sigma / 131072.0)
    out = np.empty(n, dtype=np.float32)
    for at in range(0, n, CHUNK):
        i = np.arange(first + at, first + min(at + CHUNK, n), dtype=np.uint64)
        lo, hi = i & MASK32, i >> np.uint64(32)
        words = philox4x32(seed, lo, hi, 1, tensor) + philox4x32(seed, lo, hi, 2, tensor)[:2]
        total = np.zeros(i.shape, dtype=np.int64)
        for w in words:
            total += (w & np.uint32(0xFFFF)).astype(np.int64) + (w >> np.uint32(16))
        # |2 * sum - 12 * 65535| < 2^20: the conversion to float32 is exact.
        out[at : at + CHUNK] = (2 * total - 12 * 65535).astype(np.float32) * scale
    return out


def tensors(o):
    """(name, shape, is a gain) of every tensor, in the order in which they are numbered."""
    p = "transformer." if o.prefix else ""
    e, f = o.n_embd, o.n_ff
    yield p + "wte.weight", (o.n_vocab, e), False
    yield p + "wpe.weight", (o.n_ctx, e), False
    for layer in range(o.n_layer):
        h = f"{p}h.{layer}."
        yield h + "ln_1.weight", (e,), True
        yield h + "ln_1.bias", (e,), False
        yield h + "attn.c_attn.weight", (e, 3 * e), False
        yield h + "attn.c_attn.bias", (3 * e,), False
        yield h + "attn.c_proj.weight", (e, e), False
        yield h + "attn.c_proj.bias", (e,), False
        yield h + "ln_2.weight", (e,), True
        yield h + "ln_2.bias", (e,), False
        yield h + "mlp.c_fc.weight", (e, f), False
        yield h + "mlp.c_fc.bias", (f,), False
        yield h + "mlp.c_proj.weight", (f, e), False
        yield h + "mlp.c_proj.bias", (e,), False
    yield p + "ln_f.weight", (e,), True
    yield p + "ln_f.bias", (e,), False
    if o.untied:
        yield "lm_head.weight", (o.n_vocab, e), False


def config(o):
    """config.json as an object; the order of the keys is part of the bytes."""
    return {
        "activation_function": o.activation,
        "architectures": ["GPT2LMHeadModel"],
        "bos_token_id": None,
        "eos_token_id": None,
        "layer_norm_epsilon": 1e-05,
        "model_type": "gpt2",
        "n_ctx": o.n_ctx,
        "n_embd": o.n_embd,
        "n_head": o.n_head,
        "n_inner": o.n_ff,
        "n_layer": o.n_layer,
        "n_positions": o.n_ctx,
        "tie_word_embeddings": not o.untied,
        "vocab_size": o.n_vocab,
    }


def synth(folder, o):
    """Writes config.json and model.safetensors into folder, which is made when missing."""
    check_philox()
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "config.json"), "w", encoding="ascii", newline="\n") as f:
        f.write(json.dumps(config(o), indent=2) + "\n")

    header, end = {}, 0
    for name, shape, _ in tensors(o):
        begin, end = end, end + 4 * int(np.prod(shape))
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode("ascii")
    text += b" " * (-len(text) % 8)
    with open(os.path.join(folder, "model.safetensors"), "wb") as f:
        f.write(len(text).to_bytes(8, "little") + text)
        for t, (_, shape, gain) in enumerate(tensors(o)):
            v = values(o.seed, t, int(np.prod(shape)), o.sigma)
            if gain:
                v = np.float32(1.0) + v
            f.write(v.astype("<f4").tobytes())


def hash_folder(folder):
    """SHA-256 over config.json followed by model.safetensors, in hex."""
    h = hashlib.sha256()
    for name in ("config.json", "model.safetensors"):
        with open(os.path.join(folder, name), "rb") as f:
            while block := f.read(1 << 20):
                h.update(block)
    return h.hexdigest()


def main(argv):
    if len(argv) < 2:
        raise SystemExit(__doc__)
    fields = {f.name: f.type for f in dataclasses.fields(Options)}
    given = {}
    for word in argv[2:]:
        name, _, value = word.partition("=")
        if name not in fields:
            raise SystemExit(f"synth.py: unknown field {name}")
        kind = fields[name]
        given[name] = value in ("1", "true") if kind is bool else kind(value)
    synth(argv[1], Options(**given))
    print(hash_folder(argv[1]))


if __name__ == "__main__":
    main(sys.argv)
