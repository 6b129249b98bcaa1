"""Trains the demo model from nothing: first its byte-level BPE, then a GPT-2 of 4 x 128.

    python train.py --work build            about an hour on one thread, restartable
    python train.py --work build --export   writes the newest checkpoint as a model folder

Every number is seeded, batch k depends on the seed and k only, and one thread is used, so the same
command with the same PyTorch on the same kind of processor gives the same weights.  The result, a
Hugging Face folder, is written beside this file (--output for elsewhere).
"""

import argparse
import json
import math
import os
import random
import time
from pathlib import Path

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import nn
from torch.nn import functional as F

import generator

HERE = Path(__file__).resolve().parent
VOCAB_SIZE = 1024
N_LAYER, N_EMBD, N_HEAD, N_POSITIONS = 4, 128, 4, 512
LEARNING_RATE, WARMUP_STEPS, FLOOR = 2e-3, 100, 0.02
BATCH = 8               # examples a step
BUCKET = 32             # batches drawn together, so that a batch's examples are alike in length
ANSWER_WEIGHT = 3.0     # the text itself is loss 1, what is asked of it 3
OFFSET_SHARE = 0.10     # single examples placed at a random position, to train late positions
LAYER_NORM_EPSILON = 1e-5


# --- tokenizer -----------------------------------------------------------------------------------

def byte_alphabet():
    """GPT-2's printable stand-ins for the 256 bytes, in GPT-2's order of ids."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return [chr(byte) for byte in printable] + [chr(256 + n) for n in range(256 - len(printable))]


def corpus(seed, examples):
    rng = random.Random(f"tokenizer {seed}")
    for _ in range(examples):
        example = generator.training_example(rng)
        yield example.prompt + example.answer


def train_tokenizer(folder, seed, examples=20000):
    """Writes vocab.json and merges.txt: 256 bytes, then the merges in order, end-of-text last."""
    alphabet = byte_alphabet()
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    bpe.train_from_iterator(corpus(seed, examples), trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE - 1, initial_alphabet=alphabet, show_progress=False))
    merges = [tuple(pair) for pair in json.loads(bpe.to_str())["model"]["merges"]]
    tokens = alphabet + [left + right for left, right in merges] + [generator.END_OF_TEXT]
    if len(tokens) != VOCAB_SIZE or len(set(tokens)) != VOCAB_SIZE:
        raise SystemExit(f"{len(set(tokens))} different tokens of {len(tokens)}: change the seed")
    vocab = {token: number for number, token in enumerate(tokens)}
    (folder / "vocab.json").write_text(json.dumps(vocab, ensure_ascii=False), encoding="utf-8")
    lines = ["#version: 0.2"] + [f"{left} {right}" for left, right in merges]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def load_tokenizer(folder):
    """GPT-2's tokenizer over the folder's files: ByteLevel splits with GPT-2's regex."""
    bpe = Tokenizer(models.BPE.from_file(str(folder / "vocab.json"), str(folder / "merges.txt")))
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    bpe.decoder = decoders.ByteLevel()
    bpe.add_special_tokens([AddedToken(generator.END_OF_TEXT, normalized=False)])
    return bpe


# --- model ---------------------------------------------------------------------------------------

class Conv1D(nn.Module):
    """GPT-2's linear layer: weight is [inputs, outputs]."""

    def __init__(self, inputs, outputs, std):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(inputs, outputs) * std)
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x):
        return torch.addmm(self.bias, x.flatten(0, -2), self.weight).unflatten(0, x.shape[:-1])


class Attention(nn.Module):
    def __init__(self, std):
        super().__init__()
        self.c_attn = Conv1D(N_EMBD, 3 * N_EMBD, 0.02)
        self.c_proj = Conv1D(N_EMBD, N_EMBD, std)

    def forward(self, x):
        rows, length, _ = x.shape
        heads = self.c_attn(x).view(rows, length, 3, N_HEAD, N_EMBD // N_HEAD)
        query, key, value = heads.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        return self.c_proj(mixed.transpose(1, 2).reshape(rows, length, N_EMBD))


class Mlp(nn.Module):
    def __init__(self, std):
        super().__init__()
        self.c_fc = Conv1D(N_EMBD, 4 * N_EMBD, 0.02)
        self.c_proj = Conv1D(4 * N_EMBD, N_EMBD, std)

    def forward(self, x):
        return self.c_proj(F.gelu(self.c_fc(x), approximate="tanh"))


class Block(nn.Module):
    def __init__(self, std):
        super().__init__()
        self.ln_1 = nn.LayerNorm(N_EMBD, eps=LAYER_NORM_EPSILON)
        self.attn = Attention(std)
        self.ln_2 = nn.LayerNorm(N_EMBD, eps=LAYER_NORM_EPSILON)
        self.mlp = Mlp(std)

    def forward(self, x):
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class Gpt2(nn.Module):
    """GPT-2 with a tied head; its parameters carry Hugging Face's names."""

    def __init__(self):
        super().__init__()
        std = 0.02 / math.sqrt(2 * N_LAYER)
        self.wte = nn.Embedding(VOCAB_SIZE, N_EMBD)
        self.wpe = nn.Embedding(N_POSITIONS, N_EMBD)
        self.h = nn.ModuleList(Block(std) for _ in range(N_LAYER))
        self.ln_f = nn.LayerNorm(N_EMBD, eps=LAYER_NORM_EPSILON)
        nn.init.normal_(self.wte.weight, 0, 0.02)
        nn.init.normal_(self.wpe.weight, 0, 0.02)

    def forward(self, ids, positions):
        x = self.wte(ids) + self.wpe(positions)
        for block in self.h:
            x = block(x)
        return self.ln_f(x)


# --- batches -------------------------------------------------------------------------------------

def encode(bpe, rng, example):
    """(ids, length of the prompt, first position), or None if it does not fit the context."""
    prompt = bpe.encode(example.prompt).ids
    ids = prompt + bpe.encode(example.answer).ids + [VOCAB_SIZE - 1]
    if len(ids) > N_POSITIONS:
        return None
    offset = rng.randint(0, N_POSITIONS - len(ids)) if rng.random() < OFFSET_SHARE else 0
    return ids, len(prompt), offset


def collate(rows):
    """Pads rows at the right: ids, positions, and the loss weight of each predicted token."""
    length = max(len(ids) for ids, _, _ in rows)
    ids = torch.full((len(rows), length), VOCAB_SIZE - 1)
    positions = torch.zeros(len(rows), length, dtype=torch.long)
    weights = torch.zeros(len(rows), length)
    for row, (tokens, prompt, offset) in enumerate(rows):
        ids[row, :len(tokens)] = torch.tensor(tokens)
        positions[row] = (torch.arange(length) + offset).clamp(max=N_POSITIONS - 1)
        weights[row, :len(tokens)] = 1.0
        weights[row, prompt:len(tokens)] = ANSWER_WEIGHT
    return ids, positions, weights


def bucket(bpe, seed, number):
    """Batches number * BUCKET and following; they depend on nothing but seed and number."""
    rng = random.Random(f"train {seed} {number}")
    rows = []
    while len(rows) < BATCH * BUCKET:
        row = encode(bpe, rng, generator.training_example(rng))
        if row:
            rows.append(row)
    rows.sort(key=lambda row: len(row[0]))
    batches = [rows[i:i + BATCH] for i in range(0, len(rows), BATCH)]
    rng.shuffle(batches)
    return [collate(batch) for batch in batches]


# --- training ------------------------------------------------------------------------------------

def loss_of(model, ids, positions, weights):
    hidden = model(ids[:, :-1], positions[:, :-1])
    wanted = weights[:, 1:] > 0
    logits = hidden[wanted] @ model.wte.weight.T
    each = F.cross_entropy(logits, ids[:, 1:][wanted], reduction="none")
    weight = weights[:, 1:][wanted]
    answers = weight > 1
    return (each * weight).sum() / weight.sum(), each[answers].sum().item(), int(answers.sum())


def learning_rate(step, done):
    """Warm-up, then a cosine over the share of tokens done."""
    cosine = 0.5 + 0.5 * math.cos(math.pi * min(1.0, done))
    return LEARNING_RATE * min(1.0, (step + 1) / WARMUP_STEPS) * (FLOOR + (1 - FLOOR) * cosine)


def save_checkpoint(path, model, optimizer, step, tokens):
    part = path.with_suffix(".part")
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(),
                "step": step, "tokens": tokens}, part)
    part.replace(path)      # a stop in the middle leaves the old checkpoint whole


def train(model, bpe, args, checkpoint):
    """Runs to args.tokens (padding not counted), going on from the checkpoint if there is one."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.98),
                                  weight_decay=0.01, fused=True)
    step = tokens = 0
    if checkpoint.exists():
        state = torch.load(checkpoint)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        step, tokens = state["step"], state["tokens"]
        print(f"going on from step {step}", flush=True)
    started = shown = saved = time.monotonic()
    first, answer_loss, answer_tokens, loaded = tokens, 0.0, 0, None
    while tokens < args.tokens:
        if step // BUCKET != loaded:
            loaded, batches = step // BUCKET, bucket(bpe, args.seed, step // BUCKET)
        batch = batches[step % BUCKET]
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, tokens / args.tokens)
        loss, loss_sum, count = loss_of(model, *batch)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        step += 1
        tokens += int((batch[2] > 0).sum())
        answer_loss, answer_tokens = answer_loss + loss_sum, answer_tokens + count
        now = time.monotonic()
        if now - shown > 30:
            print(f"step {step}  tokens {tokens / 1e6:.2f}M  loss {loss.item():.3f}  answers "
                  f"{answer_loss / answer_tokens:.4f}  {(tokens - first) / (now - started):.0f}/s",
                  flush=True)
            shown, answer_loss, answer_tokens = now, 0.0, 0
        if now - saved > args.save_every:
            save_checkpoint(checkpoint, model, optimizer, step, tokens)
            saved = now
    save_checkpoint(checkpoint, model, optimizer, step, tokens)


# --- the model folder ----------------------------------------------------------------------------

def write_json(path, value):
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def export(model, work, output):
    """Writes the Hugging Face folder: F16 weights, configuration, tokenizer."""
    end = VOCAB_SIZE - 1
    output.mkdir(parents=True, exist_ok=True)
    tensors = {f"transformer.{name}": value.detach().to(torch.float16).contiguous()
               for name, value in model.state_dict().items()}
    save_file(tensors, output / "model.safetensors", metadata={"format": "pt"})
    (output / "model.safetensors").chmod(0o644)     # save_file makes it private; a server reads it
    write_json(output / "config.json", {
        "model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "vocab_size": VOCAB_SIZE,
        "n_layer": N_LAYER, "n_embd": N_EMBD, "n_head": N_HEAD, "n_inner": None,
        "n_positions": N_POSITIONS, "n_ctx": N_POSITIONS, "activation_function": "gelu_new",
        "layer_norm_epsilon": LAYER_NORM_EPSILON, "bos_token_id": end, "eos_token_id": end,
        "tie_word_embeddings": True, "torch_dtype": "float16"})
    write_json(output / "generation_config.json", {"bos_token_id": end, "eos_token_id": end})
    write_json(output / "tokenizer_config.json", {
        "tokenizer_class": "GPT2Tokenizer", "add_prefix_space": False,
        "model_max_length": N_POSITIONS, "bos_token": generator.END_OF_TEXT,
        "eos_token": generator.END_OF_TEXT, "unk_token": generator.END_OF_TEXT})
    for name in ("vocab.json", "merges.txt"):
        (output / name).write_bytes((work / name).read_bytes())


def main():
    parser = argparse.ArgumentParser(description="train the demo model")
    parser.add_argument("--work", type=Path, required=True, help="folder for checkpoints")
    parser.add_argument("--output", type=Path, default=HERE, help="where the model folder goes")
    parser.add_argument("--tokens", type=float, default=13e6)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--save-every", type=float, default=120, metavar="SECONDS")
    parser.add_argument("--export", action="store_true", help="only export the newest checkpoint")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    args.work.mkdir(parents=True, exist_ok=True)
    checkpoint = args.work / "checkpoint.pt"
    model = Gpt2()
    if args.export:
        model.load_state_dict(torch.load(checkpoint)["model"])
    else:
        if not (args.work / "vocab.json").exists():
            train_tokenizer(args.work, args.seed)
        train(model, load_tokenizer(args.work), args, checkpoint)
    export(model, args.work, args.output)


if __name__ == "__main__":
    main()
