#!/usr/bin/env python3
"""Makes test/vectors/data: what Hugging Face transformers in float32 answers for seeded models
and for seeded logits.  README.md describes the files; test/unit/test_vectors*.c reads them.

    python test/vectors/make_vectors.py [--only NAME ...] [--out DIRECTORY]

Nothing is downloaded: every model is made here by synth.py.  Each reference is computed twice,
in float32 (what is stored) and in float64 (to know how many digits of it are worth comparing),
and the script refuses to store a reference in which rounding could decide the answer.
"""

import argparse
import dataclasses
import os
import tempfile

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_OFFLINE", "1")

import numpy as np
import torch
import transformers
from transformers.generation.logits_process import (
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
    TypicalLogitsWarper,
)

import synth
from synth import ACTIVATIONS, Options

N_IDS = 64  # logits stored per position
TOLERANCE = 1e-4  # of the test, relative to a row's largest |logit|
# Two logits may each be off by the tolerance, so a choice with this gap is safe in any
# implementation that the test accepts.
MIN_GAP = 2 * TOLERANCE
# float32 itself must be this much better than the tolerance (float64 is the judge).
MAX_NOISE = TOLERANCE / 10


@dataclasses.dataclass(frozen=True)
class Case:
    """A prompt of n_prompt seeded ids; the positions whose logits are stored (None = all); how
    many tokens are continued greedily from its end (0 = none, -1 = to the context); and which
    stream of ids it is (chosen so that the greedy tokens vary and are never close calls)."""

    name: str
    n_prompt: int
    positions: tuple | None
    n_greedy: int
    stream: int


THIRDS = tuple(range(0, 128, 3)) + (127,)

# Shapes are odd on purpose: head_dim 1, 3, 8, 12, 16, 20, 48, 64, 128; sizes below, at and beyond
# one panel of 48 columns and one block of 32 positions; n_ff that is not 4 n_embd.
# Sigma is large enough for peaked attention and logits that are well apart, small enough that
# float32 noise stays far below the tolerance.
MODELS = {
    "one-head": (
        Options(1, 48, 1, 192, 97, 50, "gelu_new", False, True, 0.15, 121),
        (Case("full", 97, None, 0, 0), Case("short", 5, None, -1, 1)),
    ),
    "bare-untied": (
        Options(3, 48, 3, 100, 64, 101, "gelu", True, False, 0.12, 242),
        (Case("full", 64, None, 0, 0), Case("short", 1, None, -1, 3)),
    ),
    "head-20": (
        Options(2, 60, 3, 250, 97, 257, "relu", False, False, 0.12, 943),
        (Case("full", 97, None, 0, 0), Case("short", 31, (0, 30), -1, 2)),
    ),
    "untied-64": (
        Options(2, 128, 2, 512, 70, 1001, "gelu_new", True, True, 0.1, 704),
        (Case("full", 70, None, 0, 0), Case("short", 32, (0, 31), -1, 1)),
    ),
    "head-8": (
        Options(4, 40, 5, 33, 33, 49, "gelu", False, True, 0.15, 385),
        (Case("full", 33, None, 0, 0), Case("short", 2, None, -1, 2)),
    ),
    "tiny": (
        Options(1, 6, 2, 7, 16, 7, "relu", True, True, 0.4, 126),
        (Case("full", 16, None, 0, 0), Case("short", 1, None, -1, 3)),
    ),
    "head-1": (
        Options(2, 5, 5, 20, 40, 11, "gelu_new", False, False, 0.5, 287),
        (Case("full", 40, None, 0, 0), Case("short", 3, None, -1, 3)),
    ),
    "head-12": (
        Options(2, 144, 12, 576, 130, 5003, "gelu", False, True, 0.1, 108),
        (Case("full", 130, None, 0, 0), Case("short", 30, (0, 29), -1, 1)),
    ),
    "head-128": (
        Options(2, 256, 2, 1000, 128, 300, "relu", True, False, 0.08, 689),
        (Case("full", 128, THIRDS, 0, 0), Case("short", 28, (27,), -1, 3)),
    ),
    # GPT-2 small's shape.
    "gpt2-124m": (
        Options(12, 768, 12, 3072, 1024, 50257, "gelu_new", False, True, 0.05, 110),
        (
            Case("short", 40, (0, 1, 2, 7, 15, 30, 31, 32, 33, 38, 39), 100, 11),
            Case("long", 1000, (0, 31, 32, 63, 64, 100, 255, 256, 511, 512, 767, 998, 999), 24, 2),
        ),
    ),
}


def header(out, what, script="make_vectors.py"):
    out.write(f"# {what}\n")
    out.write(f"# Made by: python test/vectors/{script} (see test/vectors/README.md)\n")
    out.write(
        f"# torch {torch.__version__.split('+')[0]}, transformers {transformers.__version__},"
        f" numpy {np.__version__}; float32, eager attention, one thread\n"
    )


def number(x):
    """Nine digits: a float32 comes back as it was."""
    return format(float(x), ".9g")


def seeded_ids(seed, stream, n, n_vocab):
    """n ids from Philox, so that a reference does not hang on numpy's or torch's generators."""
    words = synth.philox4x32(seed, np.arange(n), 0, 0x76656374, stream)
    return [int(w) % n_vocab for w in words[0]]


def sample_of_ids(o):
    """The ids whose logits are stored: all of a small vocabulary; else its ends, the borders of
    the first and the last panels of 48 columns, and seeded ones between."""
    if o.n_vocab <= N_IDS:
        return list(range(o.n_vocab))
    last = (o.n_vocab - 1) // 48 * 48
    ids = {0, 1, 15, 16, 31, 32, 47, 48, 95, last - 1, last, o.n_vocab - 2, o.n_vocab - 1}
    for i in seeded_ids(o.seed, 999, 4 * N_IDS, o.n_vocab):
        if len(ids) == N_IDS:
            break
        ids.add(i)
    return sorted(ids)


def load(folder, dtype):
    model, info = transformers.GPT2LMHeadModel.from_pretrained(
        folder, dtype=dtype, attn_implementation="eager", output_loading_info=True
    )
    # A name that transformers did not expect would leave its own random weights in place.
    if any(info.values()):
        raise AssertionError(f"{folder}: {info}")
    return model.eval()


def logits_of(model, ids):
    with torch.no_grad():
        return model(input_ids=torch.tensor([ids]), use_cache=False).logits[0]


def gap_of(row):
    """Distance of the two best logits relative to the largest |logit|."""
    best = torch.topk(row.double(), 2).values
    return float((best[0] - best[1]) / row.abs().max())


def greedy(model, ids, n):
    """n greedy tokens after ids, and the smallest relative gap on the way."""
    out, gap, past, feed = [], float("inf"), None, ids
    with torch.no_grad():
        for _ in range(n):
            answer = model(input_ids=torch.tensor([feed]), past_key_values=past, use_cache=True)
            past, row = answer.past_key_values, answer.logits[0, -1]
            gap = min(gap, gap_of(row))
            feed = [int(torch.argmax(row))]
            out += feed
    return out, gap


def check_generate(model, ids, out):
    """The loop above must be what transformers' own generate() does."""
    model.generation_config.pad_token_id = 0
    with torch.no_grad():
        given = model.generate(
            torch.tensor([ids]),
            attention_mask=torch.ones(1, len(ids), dtype=torch.long),
            max_new_tokens=len(out),
            do_sample=False,
        )
    if given[0, len(ids) :].tolist() != out:
        raise AssertionError("generate() has other tokens than the greedy loop")


def least_different(n, n_vocab):
    """How many different ids n greedy tokens must have to be worth comparing: a random model
    likes to fall into a loop."""
    return min(n // 5, n_vocab // 3)


def write_case(out, o, case, m32, m64, sample):
    ids = seeded_ids(o.seed, case.stream, case.n_prompt, o.n_vocab)
    rows = logits_of(m32, ids)
    exact = logits_of(m64, ids)
    top = exact.abs().max(dim=-1).values
    noise = float(((rows.double() - exact).abs().max(dim=-1).values / top).max())
    print(f"    {case.name}: {len(ids)} ids, noise {noise:.2g}", end="", flush=True)
    if noise > MAX_NOISE:
        raise AssertionError(f"{case.name}: float32 noise {noise:.2g}: choose a smaller sigma")

    out.write(f"case {case.name}\nids {len(ids)} {' '.join(map(str, ids))}\n")
    out.write(f"noise {noise:.2g}\n")
    if len(ids) > 1:
        loss = torch.nn.functional.cross_entropy(rows[:-1], torch.tensor(ids[1:]))
        out.write(f"loss {number(loss)}\n")
        print(f", loss {float(loss):.4g}", end="")
    for p in range(len(ids)) if case.positions is None else case.positions:
        row = rows[p]
        best = int(torch.argmax(row))
        lse = torch.logsumexp(row.double(), 0)
        out.write(
            f"at {p} absmax {number(row.abs().max())} best {best} {number(row[best])}"
            f" gap {gap_of(row):.3g} lse {number(lse)} logits "
            f"{' '.join(number(row[i]) for i in sample)}\n"
        )

    n = o.n_ctx - len(ids) if case.n_greedy < 0 else case.n_greedy
    if n > 0:
        tokens, gap = greedy(m32, ids, n)
        print(f", greedy {n}: {len(set(tokens))} ids, gap {gap:.2g}", end="", flush=True)
        if gap < MIN_GAP:
            raise AssertionError(f"{case.name}: smallest gap {gap:.2g}: choose another seed")
        if len(set(tokens)) < least_different(n, o.n_vocab):
            raise AssertionError(f"{case.name}: only {len(set(tokens))} different tokens")
        check_generate(m32, ids, tokens)
        out.write(f"greedy {n} gap {gap:.3g} ids {' '.join(map(str, tokens))}\n")
    out.write("end\n")
    print()


def write_model(path, name):
    o, cases = MODELS[name]
    print(name)
    with tempfile.TemporaryDirectory() as folder:
        synth.synth(folder, o)
        sha256 = synth.hash_folder(folder)
        m32, m64 = load(folder, torch.float32), load(folder, torch.float64)
    sample = sample_of_ids(o)
    with open(path, "w", encoding="ascii", newline="\n") as out:
        header(out, f"{name}: logits, loss and greedy tokens of Hugging Face GPT2LMHeadModel")
        out.write("model\n")
        for field in dataclasses.fields(o):
            value = getattr(o, field.name)
            if field.name == "activation":
                value = ACTIVATIONS.index(value)
            out.write(f"{field.name} {int(value) if isinstance(value, bool) else value}\n")
        out.write(f"sha256 {sha256}\n")
        out.write(f"sample {len(sample)} {' '.join(map(str, sample))}\n")
        for case in cases:
            write_case(out, o, case, m32, m64, sample)


# Sampling: logits are tensor 0 of synth.values with the given seed and sigma, so that a file
# holds no logits.  Two shapes of a distribution: nearly flat, and peaked as a model's is.
VECTORS = {
    "flat-101": (201, 101, 1.0),
    "peaked-101": (202, 101, 4.0),
    "flat-5003": (203, 5003, 1.5),
    "peaked-5003": (204, 5003, 4.0),
}

# (vector, repetition_penalty, temperature, top_k, top_p, min_p, typical_p where it is not 1);
# neutral: 1, 1, 0, 1, 0, 1.
SAMPLING = (
    ("flat-101", 1, 1, 0, 1, 0),
    ("flat-101", 1, 0.7, 0, 1, 0),
    ("flat-101", 1, 1, 7, 1, 0),
    ("flat-101", 1, 1, 200, 1, 0),
    ("flat-101", 1, 1, 0, 0.9, 0),
    ("flat-101", 1, 1, 0, 1, 0.25),
    ("flat-101", 1.3, 1, 0, 1, 0),
    ("flat-101", 0.8, 1, 0, 1, 0),
    ("flat-101", 1.5, 1.5, 60, 0.8, 0.2),
    ("peaked-101", 1, 1, 1, 1, 0),
    ("peaked-101", 1, 2.5, 0, 0.99, 0),
    ("peaked-101", 1, 0.5, 0, 1, 0.01),
    ("peaked-101", 1, 1, 0, 0.01, 0),
    ("peaked-101", 1.2, 0.8, 40, 0.95, 0.001),
    ("flat-5003", 1, 1, 0, 1, 0),
    ("flat-5003", 1, 1, 1000, 1, 0),
    ("flat-5003", 1, 1, 0, 0.5, 0),
    ("flat-5003", 1, 0.9, 0, 1, 0.05),
    ("flat-5003", 1.2, 1, 500, 0.9, 0),
    ("peaked-5003", 1, 1, 50, 1, 0),
    ("peaked-5003", 1, 1, 0, 0.95, 0),
    ("peaked-5003", 1, 0.7, 0, 1, 0.02),
    ("peaked-5003", 1.1, 0.7, 50, 0.9, 0.01),
    ("peaked-5003", 1.4, 1.8, 300, 0.97, 0.005),
    ("flat-101", 1, 1, 0, 1, 0, 0.9),
    ("flat-101", 1, 1, 0, 1, 0, 0.2),
    ("flat-101", 1, 1, 0, 1, 0, 0.01),
    ("flat-101", 1.3, 0.7, 50, 0.9, 0.1, 0.6),
    ("peaked-101", 1, 1, 0, 1, 0, 0.5),
    ("peaked-101", 1, 3.0, 0, 0.9, 0, 0.8),
    ("flat-5003", 1, 1, 0, 1, 0, 0.3),
    ("flat-5003", 1, 1.4, 700, 1, 0.02, 0.5),
    ("peaked-5003", 1, 1, 0, 1, 0, 0.95),
    ("peaked-5003", 1.2, 1.5, 200, 0.9, 0.001, 0.7),
)

# How far from a filter's boundary everything must be: far beyond float32's rounding (about 1e-6
# in all three), so that transformers in float32 and the engine's integers must agree.
BOUNDARY_TOP_K = 1e-4  # logit k - logit k + 1, after temperature
BOUNDARY_TOP_P = 2e-5  # sums just below and just above p, against p
BOUNDARY_MIN_P = 1e-4  # a probability's ratio to the threshold, against 1
BOUNDARY_TYPICAL = 1e-5  # a sum against typical_p; |log p + entropy| of the last against the next


def refuse_close(case, what, distance, least):
    if distance < least:
        raise AssertionError(f"{case}: {what} {distance:.2g} from its boundary: change the case")


def refuse_close_typical(case, logits, typical_p):
    p = torch.softmax(logits.double(), 0)
    log_p = torch.log(p)
    distance, order = torch.sort((-log_p + (log_p * p).nansum()).abs())
    sums = torch.cumsum(p[order], 0)
    n = int((sums < typical_p).sum()) + 1
    refuse_close(case, "typical_p", float((sums - typical_p).abs().min()), BOUNDARY_TYPICAL)
    if n < len(distance):
        refuse_close(case, "typical_p", float(distance[n] - distance[n - 1]), BOUNDARY_TYPICAL)


def warp(case, logits, seen, penalty, temperature, top_k, top_p, min_p, typical_p=1):
    """transformers' own processors in generate()'s order; checks every boundary on the way."""
    ids, s = torch.tensor([seen]), logits[None].clone()
    if penalty != 1:
        s = RepetitionPenaltyLogitsProcessor(penalty)(ids, s)
    if temperature != 1:
        s = TemperatureLogitsWarper(temperature)(ids, s)
    if 0 < top_k:
        best = torch.sort(s[0].double(), descending=True).values
        if top_k < best.numel():
            gap = float(best[top_k - 1] - best[top_k])
            refuse_close(case, "top_k", gap, BOUNDARY_TOP_K)
        s = TopKLogitsWarper(top_k)(ids, s)
    if top_p < 1:
        p = torch.sort(torch.softmax(s[0].double(), 0), descending=True).values
        distance = float((torch.cumsum(p, 0) - top_p).abs().min())
        refuse_close(case, "top_p", distance, BOUNDARY_TOP_P)
        s = TopPLogitsWarper(top_p)(ids, s)
    if min_p > 0:
        p = torch.softmax(s[0].double(), 0)
        distance = float((p / p.max() / min_p - 1).abs().min())
        refuse_close(case, "min_p", distance, BOUNDARY_MIN_P)
        s = MinPLogitsWarper(min_p)(ids, s)
    if typical_p < 1:
        refuse_close_typical(case, s[0], typical_p)
        s = TypicalLogitsWarper(typical_p)(ids, s)
    return s[0]


def write_sampling(path):
    print("sampling")
    with open(path, "w", encoding="ascii", newline="\n") as out:
        header(out, "sampling: what transformers' logits processors keep, with probabilities")
        for name, (seed, n, sigma) in VECTORS.items():
            v = synth.values(seed, 0, n, sigma)
            some = " ".join(number(x) for x in v[:8])
            out.write(f"vector {name} seed {seed} n {n} sigma {sigma} first {some}\n")
        for number_of, (vector, *settings) in enumerate(SAMPLING):
            case = f"{number_of}-{vector}"
            seed, n, sigma = VECTORS[vector]
            v = torch.from_numpy(synth.values(seed, 0, n, sigma))
            # The penalty must meet likely ids of both signs: every third of the best, and more.
            order = torch.argsort(v, descending=True, stable=True).tolist()
            seen = sorted(set(order[: n // 4 : 3] + seeded_ids(seed, number_of, n // 5, n)))
            if settings[0] == 1:
                seen = []
            s = warp(case, v, seen, *settings)
            kept = torch.nonzero(torch.isfinite(s))[:, 0].tolist()
            p = torch.softmax(s.double(), 0)
            print(f"    {case} {settings}: keeps {len(kept)}, least {float(p[kept].min()):.2g}")
            out.write(
                f"case {case} vector {vector} penalty {settings[0]} temperature {settings[1]}"
                f" top_k {settings[2]} top_p {settings[3]} min_p {settings[4]}"
                f" typical_p {settings[5] if len(settings) > 5 else 1}\n"
            )
            out.write(f"seen {len(seen)} {' '.join(map(str, seen))}".rstrip() + "\n")
            pairs = " ".join(f"{i} {float(p[i]):.7g}" for i in kept)
            out.write(f"kept {len(kept)} {pairs}\n")


def main():
    names = list(MODELS) + ["sampling"]
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    here = os.path.dirname(os.path.abspath(__file__))
    parser.add_argument("--out", default=os.path.join(here, "data"), help="where to write")
    parser.add_argument("--only", nargs="+", choices=names, default=names, help="just these")
    args = parser.parse_args()

    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    synth.check_philox()
    os.makedirs(args.out, exist_ok=True)
    for name in args.only:
        path = os.path.join(args.out, name + ".vec")
        if name == "sampling":
            write_sampling(path)
        else:
            write_model(path, name)


if __name__ == "__main__":
    main()
