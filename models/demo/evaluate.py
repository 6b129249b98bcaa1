"""Measures the demo model on data held out from its training and prints the table of the README.

    python evaluate.py [folder]

The folder's own F16 weights are run by Hugging Face transformers in float32, greedily, until
end-of-text or a line's end.  Seeds are fixed, so the same weights give the same figures.
"""

import argparse
import os
import random
from pathlib import Path

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import torch
from transformers import GPT2LMHeadModel
from transformers.utils import logging

import generator
import train
import wordlists as words

BAR = 95.0      # per cent of held-out summaries with product and fault right


class Model:
    """A model folder, its tokenizer and greedy decoding of many prompts."""

    def __init__(self, folder):
        self.bpe = train.load_tokenizer(folder)
        self.gpt2 = GPT2LMHeadModel.from_pretrained(folder, dtype=torch.float32).eval()
        self.end = self.gpt2.config.eos_token_id

    def fits(self, example, room):
        return len(self.bpe.encode(example.prompt).ids) + room <= self.gpt2.config.n_positions

    def answers(self, examples, room, batch=50):
        """The continuation of each example's prompt up to the stop."""
        found = []
        for start in range(0, len(examples), batch):
            prompts = [self.bpe.encode(example.prompt).ids
                       for example in examples[start:start + batch]]
            width = max(map(len, prompts))
            ids = torch.tensor([[self.end] * (width - len(p)) + p for p in prompts])
            mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
            with torch.no_grad():
                made = self.gpt2.generate(ids, attention_mask=mask, do_sample=False,
                                          max_new_tokens=room, pad_token_id=self.end)
            for row in made[:, width:].tolist():
                row = row[:row.index(self.end)] if self.end in row else row
                found.append(self.bpe.decode(row).split("\n")[0])
        return found


def split_summary(answer):
    """(product, fault) as a summary names them."""
    name, _, rest = answer.strip().partition(": ")
    return name, rest.partition(";")[0].rstrip(".")


def summary_figures(model, examples):
    """Per cent of product, fault, both, and the whole summary right; and the misses."""
    hits, misses = [], []
    for example, answer in zip(examples, model.answers(examples, room=64)):
        wanted, (name, issue) = example.texts[0], split_summary(answer)
        row = [name == wanted.product, issue == wanted.issue]
        hits.append(row + [all(row), answer == example.answer])
        if not all(row):
            misses.append((example.answer, answer))
    return [100 * sum(column) / len(hits) for column in zip(*hits)], misses


def exact_figure(model, examples, room):
    answers = model.answers(examples, room)
    return 100 * sum(a == e.answer for a, e in zip(answers, examples)) / len(examples)


def draw(model, seed, count, make, room=64):
    """`count` examples of `make` that leave room for an answer."""
    rng = random.Random(seed)
    examples = []
    while len(examples) < count:
        example = make(rng)
        if model.fits(example, room):
            examples.append(example)
    return examples


def summary_sets(model):
    """The sets of summaries: (title, examples)."""
    def held(rng):
        return generator.example_of("summarize", generator.text(rng, held=True))

    def trained(rng):
        return generator.example_of("summarize", generator.text(rng))

    def long(rng):
        source = generator.text(rng, held=True, fillers=rng.randint(*generator.LONG))
        return generator.example_of("summarize", source)

    def unseen(rng):
        return generator.example_of("summarize", generator.ticket(rng, wording="unseen"))

    real = iter(words.REAL_LOOKING * 4)

    def real_looking(rng):
        return generator.example_of("summarize", generator.ticket(rng, name=next(real)))

    return [
        ("held-out names and combinations", draw(model, "held", 500, held)),
        ("the same, long texts of about 250 to 480 tokens", draw(model, "long", 200, long)),
        ("training's kinds of names and combinations", draw(model, "trained", 500, trained)),
        ("50 real-looking names, 4 tickets each", draw(model, "real", 200, real_looking)),
        ("unseen wordings of the faults", draw(model, "unseen", 500, unseen)),
    ]


def print_table(model, show):
    """Prints the figures; returns the one that has a bar."""
    bar = 0.0
    print("| summaries | number | product | fault | both | whole summary |")
    print("|---|---|---|---|---|---|")
    for number, (title, examples) in enumerate(summary_sets(model)):
        figures, misses = summary_figures(model, examples)
        bar = figures[2] if number == 0 else bar
        print(f"| {title} | {len(examples)} | "
              + " | ".join(f"{figure:.1f} %" for figure in figures) + " |", flush=True)
        for wanted, answer in misses[:show]:
            print(f"    wanted{wanted}\n       got{answer}")
    print("\n| other answers, held out | number | right |\n|---|---|---|")
    for task in ("sentiment", "category"):
        examples = draw(model, task, 500, lambda rng: generator.example_of(
            task, generator.text(rng, held=True)))
        print(f"| {task} | 500 | {exact_figure(model, examples, 12):.1f} % |", flush=True)
    several = draw(model, "several", 100, lambda rng: generator.several(rng, held=True), room=120)
    print(f"| 2 to 4 texts in one, each product and fault listed | 100 | "
          f"{exact_figure(model, several, 120):.1f} % |")
    return bar


def main():
    parser = argparse.ArgumentParser(description="measure the demo model")
    parser.add_argument("folder", type=Path, nargs="?", default=train.HERE)
    parser.add_argument("--show", type=int, default=0, help="print this many misses of each set")
    args = parser.parse_args()
    torch.set_num_threads(1)
    logging.disable_progress_bar()
    bar = print_table(Model(args.folder), args.show)
    print(f"\nproduct and fault on held-out names and combinations: {bar:.1f} %, bar {BAR:.0f} %")
    raise SystemExit(0 if bar >= BAR else 1)


if __name__ == "__main__":
    main()
