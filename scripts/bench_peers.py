"""bench_peers.py: this engine and its peers side by side; called by bench_peers.sh.

    bench_peers.py FOLDER [ROUNDS [THREADS]]

FOLDER holds m124 (a model folder) and gets the peers' forms of it.  Every contender runs in a
process of its own; they take turns, ROUNDS times (default 3), and each keeps its best figure of
each kind, since other work on the machine only ever makes figures worse.  Read the ratios.

decode N: new tokens per second of N sequences together, each with 16 tokens of prompt and 64 new
ones, prompts not counted.  prefill: 512 tokens of one prompt, prompt tokens per second.  first:
milliseconds from the start of the process to the first token, opening the converted file included
(a Python peer's imports are not counted).  memory: most resident MB of the process.
"""

import json
import os
import re
import resource
import subprocess
import sys
import time

PROMPT = 16
NEW = 64
BATCHES = (1, 16, 64)
PREFILL = 512
VOCAB = 50257
FIELDS = ("decode 1", "decode 16", "decode 64", "prefill", "first", "memory")


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


def llama_files(peers):
    import llama_cpp as l

    quiet = l.llama_log_callback(lambda level, text, data: None)
    l.llama_log_set(quiet, None)
    base = os.path.join(peers, "m124-f32.gguf")
    types = {"bf16": l.LLAMA_FTYPE_MOSTLY_BF16, "Q8_0": l.LLAMA_FTYPE_MOSTLY_Q8_0,
             "Q4_0": l.LLAMA_FTYPE_MOSTLY_Q4_0}
    if not os.path.exists(base):
        make_gguf(os.path.join(peers, "m124"), base)
    for name, ftype in types.items():
        path = os.path.join(peers, f"m124-{name}.gguf")
        if not os.path.exists(path):
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


def llama_step(l, np, context, batch, n):
    if l.llama_decode(context, batch) != 0:
        sys.exit("llama_decode failed")
    return [int(np.argmax(np.ctypeslib.as_array(l.llama_get_logits_ith(context, i), (VOCAB,))))
            for i in range(batch.n_tokens) if batch.logits[i]]


def llama_decode_rate(l, np, model, n, threads):
    context = llama_context(l, model, n, 128, threads)
    batch = l.llama_batch_init(1024, 0, 1)
    tokens = []
    for first in range(0, n, 64):
        rows = [(t, p, s, p == PROMPT - 1) for s in range(first, min(first + 64, n))
                for p, t in enumerate(prompt(PROMPT, s))]
        llama_batch(l, batch, rows)
        tokens += llama_step(l, np, context, batch, n)
    start = time.perf_counter()
    for step in range(NEW):
        llama_batch(l, batch, [(t, PROMPT + step, s, True) for s, t in enumerate(tokens)])
        tokens = llama_step(l, np, context, batch, n)
    seconds = time.perf_counter() - start
    l.llama_batch_free(batch)
    l.llama_free(context)
    return n * NEW / seconds


def worker_llama(peers, form, threads):
    import llama_cpp as l
    import numpy as np

    quiet = l.llama_log_callback(lambda level, text, data: None)  # C keeps no reference
    l.llama_log_set(quiet, None)
    started = time.perf_counter()
    l.llama_backend_init()
    path = os.path.join(peers, f"m124-{form}.gguf")
    model = l.llama_model_load_from_file(path.encode(), l.llama_model_default_params())
    context = llama_context(l, model, 1, 640, threads)
    batch = l.llama_batch_init(1024, 0, 1)
    llama_batch(l, batch, [(1, 0, 0, True)])
    llama_step(l, np, context, batch, 1)
    figures = {"first": 1000 * (time.perf_counter() - started)}
    rows = [(t, p + 1, 0, p == PREFILL - 1) for p, t in enumerate(prompt(PREFILL, 7))]
    best = 0
    for _ in range(2):
        l.llama_memory_seq_rm(l.llama_get_memory(context), 0, 1, -1)
        llama_batch(l, batch, rows)
        start = time.perf_counter()
        llama_step(l, np, context, batch, 1)
        best = max(best, PREFILL / (time.perf_counter() - start))
    figures["prefill"] = best
    l.llama_free(context)
    for n in BATCHES:
        figures[f"decode {n}"] = llama_decode_rate(l, np, model, n, threads)
    finish(figures)


# ---- CTranslate2 ----

def ct2_files(peers):
    import ctranslate2

    for form in ("float32", "int8"):
        target = os.path.join(peers, f"m124-ct2-{form}")
        if not os.path.isdir(target):
            ctranslate2.converters.TransformersConverter(
                os.path.join(peers, "m124-hf")).convert(target, quantization=form)


def worker_ct2(peers, form, threads):
    import ctranslate2

    started = time.perf_counter()
    g = ctranslate2.Generator(os.path.join(peers, f"m124-ct2-{form}"), device="cpu",
                              inter_threads=1, intra_threads=threads, compute_type=form)

    def run(n, n_prompt, new):
        prompts = [[f"t{t}" for t in prompt(n_prompt, s)] for s in range(n)]
        start = time.perf_counter()
        g.generate_batch(prompts, max_length=new, min_length=new, sampling_topk=1,
                         include_prompt_in_result=False)
        return time.perf_counter() - start

    run(1, 1, 1)
    figures = {"first": 1000 * (time.perf_counter() - started)}
    figures["prefill"] = PREFILL / min(run(1, PREFILL, 1) for _ in range(2))
    for n in BATCHES:
        few = run(n, PROMPT, 8)
        figures[f"decode {n}"] = n * NEW / (run(n, PROMPT, 8 + NEW) - few)
    finish(figures)


# ---- transformers on PyTorch ----

def hf_files(peers):
    """The folder with a vocabulary of words t0, t1, ..., which is what CTranslate2 wants."""
    folder = os.path.join(peers, "m124-hf")
    if os.path.isdir(folder):
        return
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({f"t{i}": i for i in range(VOCAB)}, unk_token="t0"))
    os.makedirs(folder + ".new")
    PreTrainedTokenizerFast(tokenizer_object=words, unk_token="t0", bos_token="t50256",
                            eos_token="t50256").save_pretrained(folder + ".new")
    for name in ("config.json", "model.safetensors"):
        os.link(os.path.join(peers, "m124", name), os.path.join(folder + ".new", name))
    os.rename(folder + ".new", folder)


def worker_torch(peers, form, threads):
    import torch
    from transformers import GPT2LMHeadModel

    torch.set_num_threads(threads)
    started = time.perf_counter()
    model = GPT2LMHeadModel.from_pretrained(os.path.join(peers, "m124")).eval()

    def run(n, n_prompt, new):
        ids = torch.tensor([prompt(n_prompt, s) for s in range(n)])
        start = time.perf_counter()
        with torch.inference_mode():
            model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False,
                           max_new_tokens=new, min_new_tokens=new, pad_token_id=0)
        return time.perf_counter() - start

    run(1, 1, 1)
    figures = {"first": 1000 * (time.perf_counter() - started)}
    figures["prefill"] = PREFILL / min(run(1, PREFILL, 1) for _ in range(2))
    for n in BATCHES:
        few = run(n, PROMPT, 8)
        figures[f"decode {n}"] = n * NEW / (run(n, PROMPT, 8 + NEW) - few)
    finish(figures)


# ---- this engine ----

def worker_gpt2(peers, form, threads):
    command = ["build/gpt2_engine", "bench", "--model", os.path.join(peers, "m124"), "--packs",
               os.path.join(peers, "packs"), "--format", form, "--threads", str(threads)]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    figures = {f"decode {int(n)}": float(rate)
               for n, rate in re.findall(r"decode +(\d+) sequences +([\d.]+)", out)}
    figures["prefill"] = float(re.search(r"prefill +512 tokens +([\d.]+)", out)[1])
    command = ["build/gpt2_engine", "generate", "--model", os.path.join(peers, "m124"), "--packs",
               os.path.join(peers, "packs"), "--format", form, "--threads", str(threads),
               "--ids", "1", "--max-len", "1"]
    start = time.perf_counter()
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    if status == 0:
        figures["first"] = 1000 * (time.perf_counter() - start)
        figures["memory"] = usage.ru_maxrss / 1024
    print(json.dumps(figures))


# ---- the race ----

CONTENDERS = ([("gpt2", f) for f in ("q8", "q4", "bf16", "f32")] +
              [("llama", f) for f in ("Q8_0", "Q4_0", "bf16", "f32")] +
              [("ct2", "int8"), ("ct2", "float32"), ("torch", "f32")])
LOWER_IS_BETTER = ("first", "memory")
# Which peers' forms a format of ours is compared with: those of at least about its precision loss.
AGAINST = {"q8": ("Q8_0", "int8"), "q4": ("Q4_0",), "bf16": ("bf16",), "f32": ("f32", "float32")}


def run_one(peers, kind, form, threads):
    out = subprocess.run([sys.executable, __file__, peers, "--worker", kind, form, str(threads)],
                         check=True, capture_output=True, text=True).stdout
    return json.loads(out.splitlines()[-1])


def keep_best(best, figures):
    for name, value in figures.items():
        if name not in best:
            best[name] = value
        else:
            best[name] = (min if name in LOWER_IS_BETTER else max)(best[name], value)


def table(results):
    print("| contender | " + " | ".join(FIELDS) + " |")
    print("|---" * (len(FIELDS) + 1) + "|")
    for (kind, form), figures in results.items():
        print(f"| {kind} {form} | " + " | ".join(
            f"{figures[f]:,.0f}" if f in figures else "–" for f in FIELDS) + " |")
    print()
    print("| ratio to the best peer | " + " | ".join(FIELDS[:4]) + " |")
    print("|---" * 5 + "|")
    for form, against in AGAINST.items():
        cells = []
        for field in FIELDS[:4]:
            peer = max(f.get(field, 0) for (kind, other), f in results.items()
                       if kind != "gpt2" and other in against)
            cells.append(f"{results[('gpt2', form)][field] / peer:.2f} ×" if peer else "–")
        print(f"| {form} | " + " | ".join(cells) + " |")


def main():
    peers = sys.argv[1]
    if len(sys.argv) > 2 and sys.argv[2] == "--worker":
        worker = {"gpt2": worker_gpt2, "llama": worker_llama, "ct2": worker_ct2,
                  "torch": worker_torch}[sys.argv[3]]
        worker(peers, sys.argv[4], int(sys.argv[5]))
        return
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    threads = int(sys.argv[3]) if len(sys.argv) > 3 else os.cpu_count()
    hf_files(peers)
    llama_files(peers)
    ct2_files(peers)
    results = {}
    for _ in range(rounds):
        for kind, form in CONTENDERS:
            keep_best(results.setdefault((kind, form), {}), run_one(peers, kind, form, threads))
            print(f"{kind} {form}: {results[(kind, form)]}", file=sys.stderr)
    table(results)


if __name__ == "__main__":
    main()
