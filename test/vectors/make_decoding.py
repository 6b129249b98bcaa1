#!/usr/bin/env python3
"""Makes test/vectors/data/decoding.vec: what generate() of Hugging Face transformers in float32
makes with decoding options, greedily and by beam search.  README.md describes the file;
test/unit/test_vectors_decoding.c reads it.

    python test/vectors/make_decoding.py [--out DIRECTORY]

Each case is run again in float64, and several times with noise of NOISE on all scores: a case in
which that gives other tokens is refused, as rounding could decide it.  transformers has no
presence_penalty and frequency_penalty; here they are a logits processor of a few lines that is
given to generate(), as the API that they come from defines them.
"""

import torch
import transformers
from transformers import LogitsProcessor

from make_vectors import number, seeded_ids
from one_model import main
from synth import Options

MODEL = Options(2, 48, 3, 192, 160, 257, "gelu_new", False, True, 0.2, 621)
NOISE = 1e-4
NOISY_RUNS = 4

# (prompt tokens, new tokens, options); end: the end token.
CASES = (
    (7, 40, {}),
    (7, 40, {"repetition_penalty": 1.3}),
    (20, 60, {"presence_penalty": 1.5}),
    (20, 60, {"frequency_penalty": 0.4}),
    (20, 60, {"presence_penalty": -0.6, "frequency_penalty": 0.9}),
    (33, 60, {"no_repeat_ngram_size": 1}),
    (33, 60, {"no_repeat_ngram_size": 2}),
    (33, 90, {"no_repeat_ngram_size": 3}),
    (40, 90, {"no_repeat_ngram_size": 5}),
    (3, 20, {"no_repeat_ngram_size": 30}),
    (12, 40, {"logit_bias": {5: -3.5, 17: 4.25, 256: -100, 101: 2}}),
    (12, 40, {"end": -9}),
    (12, 40, {"end": -9, "min_new_tokens": 15}),
    (12, 40, {"repetition_penalty": 1.2, "presence_penalty": 0.5, "frequency_penalty": 0.25,
              "no_repeat_ngram_size": 3, "logit_bias": {40: 3, 41: 3}, "end": -5,
              "min_new_tokens": 12}),
    (9, 30, {"num_beams": 2}),
    (9, 40, {"num_beams": 4, "n": 4}),
    (30, 60, {"num_beams": 5, "n": 2, "length_penalty": 0.0}),
    (30, 60, {"num_beams": 5, "n": 5, "end": -4, "length_penalty": 0.5}),
    (31, 60, {"num_beams": 3, "n": 3, "end": -6, "length_penalty": 1.0}),
    (31, 60, {"num_beams": 6, "n": 6, "end": -7, "length_penalty": 2.0}),
    (31, 60, {"num_beams": 4, "n": 4, "end": -3, "length_penalty": -1.0}),
    (31, 60, {"num_beams": 4, "n": 3, "end": -6, "min_new_tokens": 20}),
    (40, 70, {"num_beams": 4, "n": 4, "no_repeat_ngram_size": 2, "end": -8}),
    (40, 50, {"num_beams": 3, "n": 3, "repetition_penalty": 1.25, "end": -8}),
    (40, 50, {"num_beams": 3, "n": 3, "presence_penalty": 0.75, "frequency_penalty": 0.5}),
    (40, 50, {"num_beams": 4, "n": 2, "logit_bias": {9: 2.5, 200: 3}, "end": -8,
              "length_penalty": 1.5}),
    (1, 30, {"num_beams": 16, "n": 16, "end": -2}),
    (5, 1, {"num_beams": 3, "n": 3}),
)


class AnswerPenalties(LogitsProcessor):
    """logit - count * frequency - presence, for tokens that the answer has."""

    def __init__(self, n_prompt, presence, frequency):
        self.n_prompt, self.presence, self.frequency = n_prompt, presence, frequency

    def __call__(self, input_ids, scores):
        counts = torch.zeros_like(scores)
        answer = input_ids[:, self.n_prompt :]
        counts.scatter_add_(1, answer, torch.ones_like(answer, dtype=scores.dtype))
        return scores - counts * self.frequency - (counts > 0).to(scores.dtype) * self.presence


class Noise(LogitsProcessor):
    """Uniform noise, from a seed of its own."""

    def __init__(self, seed):
        self.generator = torch.Generator().manual_seed(seed)

    def __call__(self, input_ids, scores):
        noise = torch.rand(scores.shape, generator=self.generator, dtype=torch.float32)
        return scores + ((2 * noise - 1) * NOISE).to(scores.dtype)


def run(model, ids, n_new, options, noise=None):
    """A list of (score, ids of the answer)."""
    n_beams, n, end = options.get("num_beams", 1), options.get("n", 1), options.get("end")
    processors = []
    if "presence_penalty" in options or "frequency_penalty" in options:
        processors.append(AnswerPenalties(len(ids), options.get("presence_penalty", 0.0),
                                          options.get("frequency_penalty", 0.0)))
    if noise is not None:
        processors.append(Noise(noise))
    settings = {k: options[k] for k in ("repetition_penalty", "no_repeat_ngram_size",
                                        "min_new_tokens") if k in options}
    if "logit_bias" in options:
        settings["sequence_bias"] = {(k,): float(v) for k, v in options["logit_bias"].items()}
    if n_beams > 1:
        settings["length_penalty"] = options.get("length_penalty", 1.0)
    with torch.no_grad():
        out = model.generate(
            torch.tensor([ids]),
            attention_mask=torch.ones(1, len(ids), dtype=torch.long),
            max_new_tokens=n_new,
            do_sample=False,
            num_beams=n_beams,
            num_return_sequences=n,
            eos_token_id=end,
            pad_token_id=0,
            return_dict_in_generate=True,
            output_scores=True,
            logits_processor=transformers.LogitsProcessorList(processors),
            **settings,
        )
    answers = []
    for i in range(n):
        answer = out.sequences[i, len(ids) :].tolist()
        if end is not None and end in answer:
            answer = answer[: answer.index(end) + 1]
        score = float(out.sequences_scores[i]) if n_beams > 1 else 0.0
        answers.append((score, answer))
    return answers


def logprob(model, ids, answer):
    """Of the answer behind ids, by the model alone."""
    with torch.no_grad():
        rows = torch.log_softmax(model(input_ids=torch.tensor([ids + answer])).logits[0], dim=-1)
    return sum(float(rows[len(ids) - 1 + i, t]) for i, t in enumerate(answer))


def with_end(m64, ids, n_new, options):
    """An end token of -k is the k-th new one of the text without, or of its best beam."""
    end = options.get("end")
    if end is None:
        return options
    without = {k: v for k, v in options.items() if k not in ("end", "min_new_tokens")}
    return {**options, "end": run(m64, ids, n_new, without)[0][1][-end - 1]}


def write_case(out, m32, m64, stream, n_prompt, n_new, options):
    ids = seeded_ids(MODEL.seed, stream, n_prompt, MODEL.n_vocab)
    options = with_end(m64, ids, n_new, options)
    answers = run(m32, ids, n_new, options)
    tokens = [a for _, a in answers]
    for i, other in enumerate([run(m64, ids, n_new, options)] +
                              [run(m64, ids, n_new, options, k) for k in range(NOISY_RUNS)]):
        if [a for _, a in other] != tokens:
            raise AssertionError(f"case {stream} {options}: run {i} has other tokens: change it")
    print(f"    {stream}: {options}: lengths {[len(a) for a in tokens]}, "
          f"{len(set(tokens[0]))} different")
    biases = " ".join(f"{k} {v}" for k, v in sorted(options.get("logit_bias", {}).items()))
    out.write(f"case {stream} max_new {n_new}"
              f" repetition_penalty {options.get('repetition_penalty', 1)}"
              f" presence_penalty {options.get('presence_penalty', 0)}"
              f" frequency_penalty {options.get('frequency_penalty', 0)}"
              f" no_repeat_ngram_size {options.get('no_repeat_ngram_size', 0)}"
              f" min_new_tokens {options.get('min_new_tokens', 0)}"
              f" num_beams {options.get('num_beams', 1)}"
              f" length_penalty {options.get('length_penalty', 1.0)}"
              f" end {options.get('end', -1)}\n")
    out.write(f"bias {len(options.get('logit_bias', {}))} {biases}".rstrip() + "\n")
    out.write(f"ids {len(ids)} {' '.join(map(str, ids))}\n")
    out.write(f"answers {len(answers)}\n")
    for score, answer in answers:
        out.write(f"score {number(score)} logprob {number(logprob(m32, ids, answer))}"
                  f" ids {len(answer)} {' '.join(map(str, answer))}\n")


def write_cases(out, m32, m64):
    for stream, (n_prompt, n_new, options) in enumerate(CASES):
        write_case(out, m32, m64, stream, n_prompt, n_new, options)


if __name__ == "__main__":
    main(__doc__, MODEL, "decoding.vec",
         "decoding: tokens and scores of generate() of GPT2LMHeadModel", "make_decoding.py",
         write_cases)
