#!/usr/bin/env python3
"""What PyTorch's autograd and optimizers say, for the unit tests of src/train.

data/gradients.vec: each operation of a GPT-2 alone, with its inputs, its output and the gradients
of all inputs; then the gradients of a whole model, which both sides make from a seed (synth.py).
data/curves.vec: the losses of 100 steps of SGD and of AdamW on such a model.

    python test/vectors/make_training.py [gradients|curves]
"""

import dataclasses
import math
import os
import sys
import tempfile

import torch
import torch.nn.functional as F
from transformers import GPT2LMHeadModel

import synth

HERE = os.path.dirname(os.path.abspath(__file__))
IGNORED = -100
NO_TOKEN = 2**32 - 1

MODEL = synth.Options(n_layer=2, n_embd=8, n_head=2, n_ff=32, n_ctx=16, n_vocab=24, sigma=0.25,
                      seed=11)
CURVE_MODEL = synth.Options(n_layer=2, n_embd=32, n_head=4, n_ff=128, n_ctx=16, n_vocab=48,
                            sigma=0.08, seed=12)


class Writer:
    def __init__(self, name):
        self.path = os.path.join(HERE, "data", name)
        self.file = open(self.path, "w")
        self.line(f"# test/vectors/make_training.py, torch {torch.__version__}")

    def line(self, *words):
        print(*words, file=self.file)

    def tensor(self, name, t):
        if not t.dtype.is_floating_point:
            values = [str(v if v != IGNORED else NO_TOKEN) for v in t.flatten().tolist()]
        else:
            values = [f"{v:.9g}" for v in t.detach().flatten().tolist()]
        self.line("tensor", name, len(values), *values)

    def case(self, name, inputs, function):
        """function(**inputs) -> output; its gradient is asked for along a random direction."""
        for t in inputs.values():
            if t.dtype.is_floating_point:
                t.requires_grad_(True)
        y = function(**inputs)
        dy = torch.randn(y.shape, generator=generator)
        y.backward(dy)
        self.line("case", name)
        for key, t in inputs.items():
            self.tensor(key, t)
            if t.dtype.is_floating_point:
                self.tensor("d" + key, t.grad)
        self.tensor("y", y)
        self.tensor("dy", dy)
        self.line("end")

    def close(self):
        self.file.close()
        print(self.path, os.path.getsize(self.path), "bytes")


generator = torch.Generator().manual_seed(1)


def random(*shape, scale=1.0):
    return (torch.randn(*shape, generator=generator) * scale).detach()


def tokens(high, *shape):
    return torch.randint(0, high, shape, generator=generator)


def attention(qkv, starts, heads):
    parts = []
    for a, b in zip(starts, starts[1:]):
        q, k, v = (x.reshape(b - a, heads, -1).transpose(0, 1) for x in qkv[a:b].chunk(3, dim=1))
        scores = q @ k.transpose(1, 2) / math.sqrt(q.shape[-1])
        mask = torch.tril(torch.ones(b - a, b - a, dtype=torch.bool))
        p = scores.masked_fill(~mask, -math.inf).softmax(-1)
        parts.append((p @ v).transpose(0, 1).reshape(b - a, -1))
    return torch.cat(parts)


def operations(w):
    w.case("gelu", {"x": random(50, scale=3.0)}, lambda x: F.gelu(x, approximate="tanh"))
    w.case("norm", {"x": random(5, 24) + 1.0, "gain": 1 + random(24, scale=0.3),
                    "bias": random(24)},
           lambda x, gain, bias: F.layer_norm(x, (24,), gain, bias, 1e-5))
    w.case("linear", {"x": random(6, 10), "w": random(10, 14), "b": random(14)},
           lambda x, w, b: x @ w + b)
    w.case("adapter", {"x": random(6, 10), "w": random(10, 14), "b": random(14),
                       "a1": random(10, 3), "a2": random(3, 14)},
           lambda x, w, b, a1, a2: x @ w + b + 1.5 * (x @ a1 @ a2))
    starts = [0, 70, 71, 80]
    w.case("attention", {"qkv": random(80, 3 * 6)}, lambda qkv: attention(qkv, starts, 2))
    ids = tokens(7, 9)
    positions = torch.tensor([0, 1, 2, 3, 0, 1, 2, 3, 4])
    w.case("embedding", {"ids": ids, "wte": random(7, 6), "wpe": random(5, 6)},
           lambda ids, wte, wpe: wte[ids] + wpe[positions])
    targets = tokens(19, 8)
    targets[2] = targets[5] = IGNORED
    w.case("loss", {"x": random(8, 6), "head": random(19, 6), "targets": targets},
           lambda x, head, targets: F.cross_entropy(x @ head.T, targets, reduction="sum"))


def make(options):
    folder = tempfile.mkdtemp()
    synth.synth(folder, options)
    model = GPT2LMHeadModel.from_pretrained(folder)
    model.eval()  # no dropout
    return model


def sequences_loss(model, sequences):
    """The mean over all targets of sequences of different lengths."""
    total = sum(F.cross_entropy(model(s[None, :-1]).logits[0], s[1:], reduction="sum")
                for s in sequences)
    return total / sum(len(s) - 1 for s in sequences)


def write_model(w, options):
    for field, value in dataclasses.asdict(options).items():
        if field not in ("activation", "untied", "prefix"):
            w.line(field, f"{value:.9g}" if isinstance(value, float) else value)


def write_sequences(w, sequences):
    w.line("sequences", len(sequences))
    for s in sequences:
        w.line(len(s), *s.tolist())


def whole_model(w):
    model = make(MODEL)
    sequences = [tokens(MODEL.n_vocab, n) for n in (17, 6, 2)]
    loss = sequences_loss(model, sequences)
    loss.backward()
    w.line("model")
    write_model(w, MODEL)
    write_sequences(w, sequences)
    w.line("loss", f"{loss.item():.9g}")
    named = [(n.removeprefix("transformer."), p) for n, p in model.named_parameters()]
    w.line("gradients", len(named))
    for name, p in named:
        w.tensor(name, p.grad)


def gradients():
    w = Writer("gradients.vec")
    operations(w)
    whole_model(w)
    w.close()


def curve(w, name, optimizer_of, batches, steps=100):
    model = make(CURVE_MODEL)
    matrices = [p for p in model.parameters() if p.dim() == 2]
    vectors = [p for p in model.parameters() if p.dim() != 2]
    optimizer = optimizer_of([{"params": matrices},
                              {"params": vectors, "weight_decay": 0.0}])
    losses = []
    for step in range(steps):
        optimizer.zero_grad()
        loss = sequences_loss(model, batches[step % len(batches)])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    w.line("curve", name, len(losses), *(f"{v:.9g}" for v in losses))
    print(name, losses[0], losses[-1])


def curves():
    w = Writer("curves.vec")
    write_model(w, CURVE_MODEL)
    # Something that can be learned: each token follows from the one before it, but for some noise.
    batches = []
    for _ in range(8):
        batch = []
        for length in (17, 9, 12):
            s = [int(tokens(CURVE_MODEL.n_vocab, 1))]
            while len(s) < length:
                s.append((s[-1] * 5 + 3) % CURVE_MODEL.n_vocab if int(tokens(10, 1)) else
                         int(tokens(CURVE_MODEL.n_vocab, 1)))
            batch.append(torch.tensor(s))
        batches.append(batch)
    w.line("batches", len(batches))
    for batch in batches:
        write_sequences(w, batch)
    curve(w, "sgd", lambda g: torch.optim.SGD(g, lr=0.1, momentum=0.9, weight_decay=0.01), batches)
    curve(w, "adam", lambda g: torch.optim.Adam(g, lr=1e-3, weight_decay=0.01), batches)
    curve(w, "adamw", lambda g: torch.optim.AdamW(g, lr=2e-3, betas=(0.9, 0.98),
                                                  weight_decay=0.1), batches)
    w.close()


if __name__ == "__main__":
    torch.set_num_threads(1)
    which = sys.argv[1:] or ["gradients", "curves"]
    for name in which:
        generator.manual_seed(1)
        {"gradients": gradients, "curves": curves}[name]()
