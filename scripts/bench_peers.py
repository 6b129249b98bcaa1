"""bench_peers.py: this engine and its peers side by side; called by bench_peers.sh.

    bench_peers.py FOLDER [--model m124|xl] [--rounds 3] [--threads N] [--formats q8,Q8_0,int8]

FOLDER holds the model (its folder's name is m124 or xl) and gets the peers' forms of it.  Every
contender runs in a process of its own; they take turns, --rounds times, and each keeps its best figure
of each kind, since other work on the machine only ever makes figures worse.  Read the ratios.

decode N: new tokens per second of N sequences together, each with 16 tokens of prompt and 64 new
ones, prompts not counted.  prefill: 512 tokens of one prompt, prompt tokens per second.  rows: rows
per second where 256 rows have a prompt of 64 tokens each and get 32 new ones: this engine by one
SELECT over a table, a peer by a script with the better of two batch sizes.  first: milliseconds from
the start of the process to the first token, opening the converted file included (a Python peer's
imports are not counted).  memory: most resident MB of the process.

xl is GPT-2's 1.5B shape, which no cache holds: one sequence, integer formats.
"""

import argparse
import json
import os
import re
import resource
import subprocess
import sys
import time

PROMPT = 16
NEW = 64
BATCHES = {"m124": (1, 16, 64), "xl": (1,)}
PREFILL = 512
ROWS, ROW_PROMPT, ROW_NEW = 256, 64, 32
ROW_BATCHES = (16, 64)
VOCAB = 50257
FIELDS = ("decode 1", "decode 16", "decode 64", "prefill", "rows", "first", "memory")
LOWER_IS_BETTER = ("first", "memory")


def prompt(n, salt):
    return [(i * 2654435761 + salt * 40503) % VOCAB for i in range(n)]


def finish(figures):
    figures["memory"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps(figures))


# ---- llama.cpp ----

LLAMA_NAMES = {
    "ln_1.weight": "attn_norm.weight", "ln_1.bias": "attn_norm.bias",
    "attn.c_attn.weight": "attn_qkv.weight", "attn.c_attn.bias": "attn_qkv.bias",
    "attn.c_proj.weight": "attn_output.weight", "attn.c_proj.bias": "attn_output.bias",
    "ln_2.weight": "ffn_norm.weight", "ln_2.bias": "ffn_norm.bias",
    "mlp.c_fc.weight": "ffn_up.weight", "mlp.c_fc.bias": "ffn_up.bias",
    "mlp.c_proj.weight": "ffn_down.weight", "mlp.c_proj.bias": "ffn_down.bias",
}


def make_gguf(folder, path):
    """The model as GGUF in f32; without a tokenizer: everything is measured with token ids."""
    import gguf
    import numpy
    from safetensors.numpy import load_file

    config = json.load(open(os.path.join(folder, "config.json")))
    w = gguf.GGUFWriter(path + ".new", "gpt2")
    w.add_block_count(config["n_layer"])
    w.add_context_length(config["n_positions"])
    w.add_embedding_length(config["n_embd"])
    w.add_feed_forward_length(4 * config["n_embd"])
    w.add_head_count(config["n_head"])
    w.add_layer_norm_eps(config["layer_norm_epsilon"])
    w.add_file_type(gguf.LlamaFileType.ALL_F32)
    w.add_tokenizer_model("none")
    w.add_vocab_size(VOCAB)
    for name, value in load_file(os.path.join(folder, "model.safetensors")).items():
        name = name.removeprefix("transformer.")
        value = value.astype(numpy.float32)
        layer = re.match(r"h\.(\d+)\.(.*)", name)
        if layer and layer[2] in LLAMA_NAMES:
            name = f"blk.{layer[1]}.{LLAMA_NAMES[layer[2]]}"
            if value.ndim == 2:
                value = numpy.ascontiguousarray(value.T)
        elif name in ("ln_f.weight", "ln_f.bias"):
            name = name.replace("ln_f", "output_norm")
        elif name == "wte.weight":
            name = "token_embd.weight"
        elif name == "wpe.weight":
            name = "position_embd.weight"
        else:
            continue
        w.add_tensor(name, value)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    os.rename(path + ".new", path)


def llama_files(peers, model):
    import llama_cpp as l

    quiet = l.llama_log_callback(lambda level, text, data: None)
    l.llama_log_set(quiet, None)
    base = os.path.join(peers, f"{model}-f32.gguf")
    types = {"bf16": l.LLAMA_FTYPE_MOSTLY_BF16, "Q8_0": l.LLAMA_FTYPE_MOSTLY_Q8_0,
             "Q4_0": l.LLAMA_FTYPE_MOSTLY_Q4_0}
    if not os.path.exists(base):
        make_gguf(os.path.join(peers, model), base)
    for name, ftype in types.items():
        path = os.path.join(peers, f"{model}-{name}.gguf")
        if ("llama", name) in CONTENDERS[model] and not os.path.exists(path):
            params = l.llama_model_quantize_default_params()
            params.ftype = ftype
            params.pure = False
            if l.llama_model_quantize(base.encode(), path.encode(), params) != 0:
                sys.exit(f"llama.cpp could not make {path}")


def llama_batch(l, batch, rows):
    """rows: (token, position, sequence, wants logits)"""
    batch.n_tokens = len(rows)
    for i, (token, position, sequence, logits) in enumerate(rows):
        batch.token[i] = token
        batch.pos[i] = position
        batch.n_seq_id[i] = 1
        batch.seq_id[i][0] = sequence
        batch.logits[i] = logits


def llama_context(l, model, n_sequences, n_ctx, threads):
    params = l.llama_context_default_params()
    params.n_ctx = n_ctx * n_sequences
    params.n_batch = params.n_ubatch = 512 if n_sequences == 1 else 1024
    params.n_seq_max = n_sequences
    params.n_threads = params.n_threads_batch = threads
    return l.llama_init_from_model(model, params)


def llama_step(l, np, context, batch):
    if l.llama_decode(context, batch) != 0:
        sys.exit("llama_decode failed")
    return [int(np.argmax(np.ctypeslib.as_array(l.llama_get_logits_ith(context, i), (VOCAB,))))
            for i in range(batch.n_tokens) if batch.logits[i]]


def llama_generate(l, np, context, batch, n, n_prompt, new, salt):
    """Seconds for the new tokens of n sequences, and for those and their prompts."""
    tokens = []
    at_once = 1024 // n_prompt
    start = time.perf_counter()
    for first in range(0, n, at_once):
        rows = [(t, p, s, p == n_prompt - 1) for s in range(first, min(first + at_once, n))
                for p, t in enumerate(prompt(n_prompt, salt + s))]
        llama_batch(l, batch, rows)
        tokens += llama_step(l, np, context, batch)
    decoding = time.perf_counter()
    for step in range(new):
        llama_batch(l, batch, [(t, n_prompt + step, s, True) for s, t in enumerate(tokens)])
        tokens = llama_step(l, np, context, batch)
    end = time.perf_counter()
    return end - decoding, end - start


def llama_decode_rate(l, np, model, n, threads):
    context = llama_context(l, model, n, 128, threads)
    batch = l.llama_batch_init(1024, 0, 1)
    seconds, _ = llama_generate(l, np, context, batch, n, PROMPT, NEW, 0)
    l.llama_batch_free(batch)
    l.llama_free(context)
    return n * NEW / seconds


def llama_rows(l, np, model, n, threads):
    context = llama_context(l, model, n, 128, threads)
    batch = l.llama_batch_init(1024, 0, 1)
    seconds = 0
    for first in range(0, ROWS, n):
        l.llama_memory_clear(l.llama_get_memory(context), False)
        # The first of the new tokens comes from the prompt's step.
        seconds += llama_generate(l, np, context, batch, n, ROW_PROMPT, ROW_NEW - 1, first)[1]
    l.llama_batch_free(batch)
    l.llama_free(context)
    return ROWS / seconds


def worker_llama(peers, shape, form, threads):
    import llama_cpp as l
    import numpy as np

    quiet = l.llama_log_callback(lambda level, text, data: None)  # C keeps no reference
    l.llama_log_set(quiet, None)
    started = time.perf_counter()
    l.llama_backend_init()
    path = os.path.join(peers, f"{shape}-{form}.gguf")
    model = l.llama_model_load_from_file(path.encode(), l.llama_model_default_params())
    context = llama_context(l, model, 1, 640, threads)
    batch = l.llama_batch_init(1024, 0, 1)
    llama_batch(l, batch, [(1, 0, 0, True)])
    llama_step(l, np, context, batch)
    figures = {"first": 1000 * (time.perf_counter() - started)}
    rows = [(t, p + 1, 0, p == PREFILL - 1) for p, t in enumerate(prompt(PREFILL, 7))]
    best = 0
    for _ in range(2):
        l.llama_memory_seq_rm(l.llama_get_memory(context), 0, 1, -1)
        llama_batch(l, batch, rows)
        start = time.perf_counter()
        llama_step(l, np, context, batch)
        best = max(best, PREFILL / (time.perf_counter() - start))
    figures["prefill"] = best
    l.llama_free(context)
    for n in BATCHES[shape]:
        figures[f"decode {n}"] = llama_decode_rate(l, np, model, n, threads)
    if shape == "m124":
        figures["rows"] = max(llama_rows(l, np, model, n, threads) for n in ROW_BATCHES)
    finish(figures)


def rates(shape, run, started):
    """Figures of a peer that has been loaded since `started`; run(sequences, prompt, new) gives the
    seconds that it takes."""
    run(1, 1, 1)
    figures = {"first": 1000 * (time.perf_counter() - started)}
    figures["prefill"] = PREFILL / min(run(1, PREFILL, 1) for _ in range(2))
    for n in BATCHES[shape]:
        few = run(n, PROMPT, 8)
        figures[f"decode {n}"] = n * NEW / (run(n, PROMPT, 8 + NEW) - few)
    return figures


# ---- CTranslate2 ----

def ct2_files(peers, model):
    import ctranslate2

    for form in ("float32", "int8"):
        target = os.path.join(peers, f"{model}-ct2-{form}")
        if ("ct2", form) in CONTENDERS[model] and not os.path.isdir(target):
            ctranslate2.converters.TransformersConverter(
                os.path.join(peers, f"{model}-hf")).convert(target, quantization=form)


def worker_ct2(peers, shape, form, threads):
    import ctranslate2

    started = time.perf_counter()
    g = ctranslate2.Generator(os.path.join(peers, f"{shape}-ct2-{form}"), device="cpu",
                              inter_threads=1, intra_threads=threads, compute_type=form)

    def run(n, n_prompt, new, at_once=0):
        prompts = [[f"t{t}" for t in prompt(n_prompt, s)] for s in range(n)]
        start = time.perf_counter()
        g.generate_batch(prompts, max_length=new, min_length=new, sampling_topk=1,
                         max_batch_size=at_once, include_prompt_in_result=False)
        return time.perf_counter() - start

    figures = rates(shape, run, started)
    if shape == "m124":
        figures["rows"] = ROWS / min(run(ROWS, ROW_PROMPT, ROW_NEW, n) for n in ROW_BATCHES)
    finish(figures)


# ---- transformers on PyTorch ----

def hf_files(peers, model):
    """The folder with a vocabulary of words t0, t1, ..., which is what CTranslate2 wants."""
    folder = os.path.join(peers, f"{model}-hf")
    if os.path.isdir(folder):
        return
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({f"t{i}": i for i in range(VOCAB)}, unk_token="t0"))
    os.makedirs(folder + ".new")
    PreTrainedTokenizerFast(tokenizer_object=words, unk_token="t0", bos_token="t50256",
                            eos_token="t50256").save_pretrained(folder + ".new")
    for name in ("config.json", "model.safetensors"):
        os.link(os.path.join(peers, model, name), os.path.join(folder + ".new", name))
    os.rename(folder + ".new", folder)


def worker_torch(peers, shape, form, threads):
    import torch
    from transformers import GPT2LMHeadModel

    torch.set_num_threads(threads)
    started = time.perf_counter()
    model = GPT2LMHeadModel.from_pretrained(os.path.join(peers, shape)).eval()

    def run(n, n_prompt, new, salt=0):
        ids = torch.tensor([prompt(n_prompt, salt + s) for s in range(n)])
        start = time.perf_counter()
        with torch.inference_mode():
            model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False,
                           max_new_tokens=new, min_new_tokens=new, pad_token_id=0)
        return time.perf_counter() - start

    figures = rates(shape, run, started)
    if shape == "m124":
        n = ROW_BATCHES[-1]
        figures["rows"] = ROWS / sum(run(n, ROW_PROMPT, ROW_NEW, i) for i in range(0, ROWS, n))
    finish(figures)


# ---- this engine ----

def engine(peers, shape, command, form, threads, *more):
    return ["build/gpt2_engine", command, "--model", os.path.join(peers, shape), "--packs",
            os.path.join(peers, "packs"), "--format", form, "--threads", str(threads), *more]


def worker_gpt2(peers, shape, form, threads):
    out = subprocess.run(engine(peers, shape, "bench", form, threads), check=True,
                         capture_output=True, text=True).stdout
    figures = {f"decode {int(n)}": float(rate)
               for n, rate in re.findall(r"decode +(\d+) sequences +([\d.]+)", out)}
    figures["prefill"] = float(re.search(r"prefill +512 tokens +([\d.]+)", out)[1])
    start = time.perf_counter()
    child = subprocess.Popen(engine(peers, shape, "generate", form, threads, "--ids", "1",
                                    "--max-len", "1"),
                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    if status == 0:
        figures["first"] = 1000 * (time.perf_counter() - start)
        figures["memory"] = usage.ru_maxrss / 1024
    if shape == "m124":
        figures["rows"] = float(subprocess.run(
            ["scripts/bench_select.sh", peers, form, str(threads), str(ROWS)], check=True,
            capture_output=True, text=True).stdout.splitlines()[-1])
    print(json.dumps(figures))


# ---- the race ----

CONTENDERS = {
    "m124": [("gpt2", f) for f in ("q8", "q4", "bf16", "f32")] +
            [("llama", f) for f in ("Q8_0", "Q4_0", "bf16", "f32")] +
            [("ct2", "int8"), ("ct2", "float32"), ("torch", "f32")],
    "xl": [("gpt2", "q8"), ("gpt2", "q4"), ("llama", "Q8_0"), ("llama", "Q4_0")],
}
WORKERS = {"gpt2": worker_gpt2, "llama": worker_llama, "ct2": worker_ct2, "torch": worker_torch}
# Which peers' forms a format of ours is compared with: those of at least about its precision loss.
AGAINST = {"q8": ("Q8_0", "int8"), "q4": ("Q4_0",), "bf16": ("bf16",), "f32": ("f32", "float32")}
COMPARED = FIELDS[:5]


def run_one(args, kind, form):
    command = [sys.executable, __file__, args.folder, "--model", args.model, "--threads",
               str(args.threads), "--worker", kind, form]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return json.loads(out.splitlines()[-1])


def keep_best(best, figures):
    for name, value in figures.items():
        if name not in best:
            best[name] = value
        else:
            best[name] = (min if name in LOWER_IS_BETTER else max)(best[name], value)


def shown(value):
    return f"{value:,.1f}" if value < 100 else f"{value:,.0f}"


def ratio(results, form, against, field):
    peer = max((f.get(field, 0) for (kind, other), f in results.items()
                if kind != "gpt2" and other in against), default=0)
    own = results.get(("gpt2", form), {}).get(field)
    return f"{own / peer:.2f} ×" if own and peer else "–"


def table(results):
    print("| contender | " + " | ".join(FIELDS) + " |")
    print("|---" * (len(FIELDS) + 1) + "|")
    for (kind, form), figures in results.items():
        print(f"| {kind} {form} | " + " | ".join(
            shown(figures[f]) if f in figures else "–" for f in FIELDS) + " |")
    print()
    print("| ratio to the best peer | " + " | ".join(COMPARED) + " |")
    print("|---" * (len(COMPARED) + 1) + "|")
    for form, against in AGAINST.items():
        if ("gpt2", form) in results:
            print(f"| {form} | " + " | ".join(
                ratio(results, form, against, field) for field in COMPARED) + " |")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--model", choices=CONTENDERS, default="m124")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--formats", help="those alone, with commas between: q8,Q8_0,int8")
    parser.add_argument("--worker", nargs=2, metavar=("KIND", "FORM"))
    args = parser.parse_args()
    if args.worker:
        kind, form = args.worker
        WORKERS[kind](args.folder, args.model, form, args.threads)
        return
    if args.model == "m124":
        hf_files(args.folder, args.model)
        ct2_files(args.folder, args.model)
    llama_files(args.folder, args.model)
    results = {}
    for _ in range(args.rounds):
        for kind, form in CONTENDERS[args.model]:
            if args.formats and form not in args.formats.split(","):
                continue
            keep_best(results.setdefault((kind, form), {}), run_one(args, kind, form))
            print(f"{kind} {form}: {results[(kind, form)]}", file=sys.stderr)
    table(results)


if __name__ == "__main__":
    main()
