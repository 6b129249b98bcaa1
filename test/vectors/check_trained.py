#!/usr/bin/env python3
"""What transformers makes of a model's folder: used by test/t/061_train_transformers.pl.

    python check_trained.py FOLDER TEXT

Loads model and tokenizer as any user would (an adapter by PEFT, on its base beside it), and prints the ids of the text, the text that they
give back, and the log-probability of each token but the first, in float32, one thing a line.
"""

import json
import os
import sys

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

folder, text = sys.argv[1:]
torch.set_num_threads(1)
adapter = os.path.join(folder, "adapter_config.json")
base = folder
if os.path.exists(adapter):
    with open(adapter, encoding="utf-8") as file:
        name = json.load(file)["base_model_name_or_path"]
    base = os.path.join(os.path.dirname(folder.rstrip("/")), name)
tokenizer = AutoTokenizer.from_pretrained(base)
model = AutoModelForCausalLM.from_pretrained(base)
if base != folder:
    from peft import PeftModel

    model = PeftModel.from_pretrained(model, folder)
model.eval()
ids = tokenizer(text, return_tensors="pt")["input_ids"]
with torch.no_grad():
    logprobs = model(ids).logits[0].double().log_softmax(-1)
print(*ids[0].tolist())
print(tokenizer.decode(ids[0]))
print(*(f"{logprobs[i, t].item():.7f}" for i, t in enumerate(ids[0, 1:].tolist())))
