"""bench_gpu_peers.py: other programs on the GPU that bench_gpu measures; called by bench_gpu.sh.

    bench_gpu_peers.py FOLDER [--device cuda|cpu] [--models 124M,355M,774M,1.5B]
                       [--sequences 1,64,256,1024] [--seconds 240]

transformers on PyTorch, in bf16, on random weights made there; and llama.cpp (llama-cpp-python), bf16
and Q8_0, 124M only, whose files are made in FOLDER.  What is not installed is left out.

The figures are those of bench_gpu: new tokens per second of N sequences together, at a context of 240
to 256, and prompt tokens per second of four prompts of 256.  llama.cpp is given its tokens, so that no
time of Python's is counted against it.
"""

import argparse
import os
import subprocess
import sys
import time

CONTEXT = 256
NEW = 16
PROMPTS = 4
VOCAB = 50257
ROUNDS = 3
SHAPES = {"124M": (12, 768, 12), "355M": (24, 1024, 16), "774M": (36, 1280, 20),
          "1.5B": (48, 1600, 25)}


class NoRoom(Exception):
    """The device's memory is too small."""


def best_of(run):
    """The least seconds of some rounds."""
    return min(run() for _ in range(ROUNDS))


def cells(args, deadline, decode, prefill):
    """A table's cells: decode(n) and prefill() give seconds."""
    for run, tokens in ([(lambda n=n: decode(n), n * NEW) for n in args.sequences] +
                        [(prefill, PROMPTS * CONTEXT)]):
        if time.monotonic() > deadline:
            yield "no time"
            continue
        try:
            yield f"{tokens / run():,.0f}"
        except NoRoom:
            yield "no room"


def row(name, args, deadline, decode, prefill):
    print(f"| {name} | " + " | ".join(cells(args, deadline, decode, prefill)) + " |", flush=True)


# ---- transformers ----

def transformers_rows(args, deadline):
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    if args.device == "cuda" and not torch.cuda.is_available():
        raise ImportError("this PyTorch sees no GPU")

    def wait():
        if args.device == "cuda":
            torch.cuda.synchronize()

    def seconds(model, n, n_prompt, new):
        ids = torch.full((n, n_prompt), 5, device=args.device)
        wait()
        start = time.perf_counter()
        try:
            with torch.inference_mode():
                model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False,
                               max_new_tokens=new, min_new_tokens=new, pad_token_id=0)
        except torch.cuda.OutOfMemoryError as error:
            raise NoRoom from error
        wait()
        return time.perf_counter() - start

    for name in args.models:
        layer, embd, head = SHAPES[name]
        config = GPT2Config(vocab_size=VOCAB, n_positions=1024, n_layer=layer, n_embd=embd,
                            n_head=head)
        with torch.device(args.device):
            model = GPT2LMHeadModel(config).to(torch.bfloat16).eval()

        def decode(n):
            seconds(model, n, CONTEXT - NEW, 1)
            few = best_of(lambda: seconds(model, n, CONTEXT - NEW, 1))
            return best_of(lambda: seconds(model, n, CONTEXT - NEW, 1 + NEW)) - few

        row(f"transformers, bf16, {name}", args, deadline, decode,
            lambda: best_of(lambda: seconds(model, PROMPTS, CONTEXT, 1)))
        del model
        if args.device == "cuda":
            torch.cuda.empty_cache()


# ---- llama.cpp ----

def llama_rows(args, deadline):
    import llama_cpp as l

    import bench_peers

    if args.device == "cuda" and not l.llama_supports_gpu_offload():
        raise ImportError("this llama.cpp was built without a GPU")
    folder = os.path.join(args.folder, "m124")
    if not os.path.isdir(folder):
        subprocess.run(["build/gpt2_engine", "synth", folder, "--sigma", "0.05", "--seed", "1"],
                       check=True)
    bench_peers.llama_files(args.folder, "m124")
    batch = l.llama_batch_init(PROMPTS * CONTEXT, 0, 1)

    def step(context, rows):
        bench_peers.llama_batch(l, batch, rows)
        if l.llama_decode(context, batch) != 0:
            raise NoRoom

    def timed(context, run):
        l.llama_synchronize(context)
        start = time.perf_counter()
        run()
        l.llama_synchronize(context)
        return time.perf_counter() - start

    def with_context(model, n, measure):
        if n > l.llama_max_parallel_sequences():
            raise NoRoom
        params = l.llama_context_default_params()
        params.n_ctx = CONTEXT * n
        params.n_batch = params.n_ubatch = PROMPTS * CONTEXT
        params.n_seq_max = n
        context = l.llama_init_from_model(model, params)
        if not context:
            raise NoRoom
        try:
            return measure(context)
        finally:
            l.llama_free(context)

    def prompts(context, first, n, length):
        step(context, [(5, p, s, p == length - 1) for s in range(first, first + n)
                       for p in range(length)])

    def decode_in(context, n):
        for first in range(0, n, PROMPTS):
            prompts(context, first, min(PROMPTS, n - first), CONTEXT - NEW)
        return timed(context, lambda: [
            step(context, [(5, p, s, True) for s in range(n)])
            for p in range(CONTEXT - NEW, CONTEXT)])

    def prefill_in(context):
        l.llama_memory_clear(l.llama_get_memory(context), False)
        return timed(context, lambda: prompts(context, 0, PROMPTS, CONTEXT))

    for form in ("bf16", "Q8_0"):
        params = l.llama_model_default_params()
        params.n_gpu_layers = 0 if args.device == "cpu" else 999
        path = os.path.join(args.folder, f"m124-{form}.gguf")
        model = l.llama_model_load_from_file(path.encode(), params)
        if not model:
            raise ImportError(f"llama.cpp cannot load {path}")
        row(f"llama.cpp, {form}, 124M", args, deadline,
            lambda n: best_of(lambda: with_context(model, n, lambda c: decode_in(c, n))),
            lambda: with_context(model, PROMPTS, lambda c: best_of(lambda: prefill_in(c))))
        l.llama_model_free(model)
    l.llama_batch_free(batch)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--models", type=lambda s: s.split(","), default=list(SHAPES))
    parser.add_argument("--sequences", type=lambda s: [int(n) for n in s.split(",")],
                        default=[1, 64, 256, 1024])
    parser.add_argument("--seconds", type=int, default=240, help="what is not begun then is left out")
    args = parser.parse_args()
    unknown = [m for m in args.models if m not in SHAPES]
    if unknown:
        parser.error(f"no such model: {unknown[0]}")
    deadline = time.monotonic() + args.seconds
    print("| tokens per second | " + " | ".join(f"{n:,} sequences" for n in args.sequences) +
          " | prompts |")
    print("|---" * (len(args.sequences) + 2) + "|", flush=True)
    for name, rows in (("transformers", transformers_rows), ("llama.cpp", llama_rows)):
        try:
            rows(args, deadline)
        except ImportError as error:
            print(f"skipped: {name}: {error}", flush=True)


if __name__ == "__main__":
    main()
