#!/usr/bin/env python3
"""Makes test/vectors/data/scores.vec: what Hugging Face transformers in float32 makes of texts that
are there: log-probabilities, loss, mean of the final norm, likelihood of labels.  README.md
describes the file; test/unit/test_scores.c reads it.

    python test/vectors/make_scores.py [--out DIRECTORY]

A text longer than the context is read as the guide "Perplexity of fixed-length models" of
transformers' documentation does it: windows of one context, each `stride` tokens behind the one
before, each of which counts only the tokens that the one before it did not reach.
"""

import torch

from make_vectors import number, seeded_ids
from one_model import main
from synth import Options

# 256 bytes and one special token: a text's bytes are its ids.
MODEL = Options(2, 48, 3, 192, 96, 257, "gelu_new", False, True, 0.2, 515)
# (length, stride); 0: the default, half of the context.
TEXTS = ((1, 0), (2, 0), (33, 0), (95, 0), (96, 0), (97, 0), (300, 0), (300, 31), (300, 95))
# (length of the prompt, lengths of the labels)
LABELS = ((1, (1, 2)), (31, (1, 3, 40)), (32, (5, 1)), (64, (2, 2, 2, 2, 7)), (90, (1, 6)))
MAX_NOISE = 1e-5  # of a log-probability, float32 against float64


def letters(stream, n):
    return [32 + i % 95 for i in seeded_ids(MODEL.seed, stream, n, 1 << 20)]


def logprobs(model, ids, stride):
    """Of all ids but the first."""
    out, reached = [], 1
    for begin in range(0, len(ids), stride):
        end = min(begin + MODEL.n_ctx, len(ids))
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([ids[begin:end]])).logits[0]
        rows = torch.log_softmax(logits, dim=-1)
        for at in range(reached, end):
            out.append(float(rows[at - 1 - begin, ids[at]]))
        reached = end
        if end == len(ids):
            break
    return out


def guide_loss(model, ids, stride):
    """The guide's loop: the model's own loss over labels of which the known ones are masked."""
    nll, n, reached = 0.0, 0, 0
    for begin in range(0, len(ids), stride):
        end = min(begin + MODEL.n_ctx, len(ids))
        window = torch.tensor([ids[begin:end]])
        target = window.clone()
        target[:, : -(end - reached)] = -100
        with torch.no_grad():
            loss = model(window, labels=target).loss
        valid = int((target != -100).sum())
        valid -= begin == 0  # the first token has no label behind the shift
        nll, n, reached = nll + float(loss) * valid, n + valid, end
        if end == len(ids):
            break
    return nll / n


def embedding(model, ids):
    """The mean over all tokens, windows of one context side by side."""
    rows = []
    for begin in range(0, len(ids), MODEL.n_ctx):
        with torch.no_grad():
            window = torch.tensor([ids[begin : begin + MODEL.n_ctx]])
            rows.append(model.transformer(input_ids=window).last_hidden_state[0])
    return torch.cat(rows).double().mean(dim=0)


def check_noise(a, b):
    noise = max((abs(x - y) / max(1.0, abs(y)) for x, y in zip(a, b)), default=0)
    if noise > MAX_NOISE:
        raise AssertionError(f"float32 noise {noise:.2g}")


def write_text(out, m32, m64, stream, n, stride):
    ids = letters(stream, n)
    step = stride or MODEL.n_ctx // 2
    scores = logprobs(m32, ids, step)
    check_noise(scores, logprobs(m64, ids, step))
    out.write(f"text {n} stride {stride}\nids {n} {' '.join(map(str, ids))}\n")
    out.write(f"logprobs {len(scores)} {' '.join(map(number, scores))}".rstrip() + "\n")
    if scores:
        loss = guide_loss(m32, ids, step)
        if abs(loss + sum(scores) / len(scores)) > MAX_NOISE * loss:
            raise AssertionError("the guide's loss is not the mean of the log-probabilities")
        out.write(f"loss {number(loss)}\n")
    values = embedding(m32, ids)
    out.write(f"embedding {len(values)} {' '.join(map(number, values))}\n")


def write_labels(out, m32, m64, stream, n, lengths):
    prompt = letters(stream, n)
    out.write(f"labels {len(lengths)}\nids {n} {' '.join(map(str, prompt))}\n")
    for i, length in enumerate(lengths):
        label = letters(stream + 1 + i, length)
        # Read in one piece, so that no cache has a say.
        scores = logprobs(m32, prompt + label, MODEL.n_ctx)[n - 1 :]
        check_noise(scores, logprobs(m64, prompt + label, MODEL.n_ctx)[n - 1 :])
        out.write(f"label {length} {' '.join(map(str, label))} logprob {number(sum(scores))}\n")


def write_cases(out, m32, m64):
    for i, (n, stride) in enumerate(TEXTS):
        write_text(out, m32, m64, 100 + i, n, stride)
    for i, (n, lengths) in enumerate(LABELS):
        write_labels(out, m32, m64, 1000 + 100 * i, n, lengths)


if __name__ == "__main__":
    main(__doc__, MODEL, "scores.vec",
         "scores: log-probabilities, loss, norms and labels of GPT2LMHeadModel", "make_scores.py",
         write_cases)
