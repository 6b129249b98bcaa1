#!/usr/bin/env python3
"""What transformers makes of models' folders: used by test/t/061_train_transformers.pl.

    python check_trained.py TEXT BASE ADAPTER FOLDER...

Makes a folder ADAPTER, which PEFT saves, on the model in the folder BASE. Then it loads each model of
the other folders and its tokenizer as any user would, an adapter by PEFT on its base beside it, and
prints the ids of the text, the text that they give back, and the log-probability of each token but
the first, in float32: three lines a folder.
"""

import json
import os
import sys

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer


def load(folder):
    """Model and tokenizer of a folder."""
    adapter = os.path.join(folder, "adapter_config.json")
    if not os.path.exists(adapter):
        return (AutoModelForCausalLM.from_pretrained(folder),
                AutoTokenizer.from_pretrained(folder))
    with open(adapter, encoding="utf-8") as file:
        name = os.path.basename(json.load(file)["base_model_name_or_path"])
    model, tokenizer = load(os.path.join(os.path.dirname(folder.rstrip("/")), name))
    return PeftModel.from_pretrained(model, folder), tokenizer


def make_adapter(base, folder):
    """One with other settings than ours, and B that is not zero."""
    torch.manual_seed(1)
    config = LoraConfig(r=3, lora_alpha=5, target_modules=["c_attn", "c_fc"], fan_in_fan_out=True,
                        use_rslora=True, init_lora_weights=False, task_type="CAUSAL_LM")
    get_peft_model(load(base)[0], config).save_pretrained(folder)


torch.set_num_threads(1)
text, base, adapter, *folders = sys.argv[1:]
make_adapter(base, adapter)
for folder in folders:
    model, tokenizer = load(folder)
    model.eval()
    ids = tokenizer(text, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        logprobs = model(ids).logits[0].double().log_softmax(-1)
    print(*ids[0].tolist())
    print(tokenizer.decode(ids[0]))
    print(*(f"{logprobs[i, t].item():.7f}" for i, t in enumerate(ids[0, 1:].tolist())))
