#!/usr/bin/env python3
"""make_checkpoint.py DIRECTORY: the pytorch_model.bin that test_import.c reads: a state_dict with
what checkpoints of GPT-2 have: tied weights, masks, parameters, a view, several types."""
import collections
import os
import sys

import torch

weight = torch.arange(12.0).reshape(3, 4)
state = collections.OrderedDict()
state["transformer.wte.weight"] = weight
state["transformer.h.0.attn.bias"] = torch.tril(torch.ones(1, 1, 2, 2, dtype=torch.bool))
state["transformer.h.0.half"] = torch.nn.Parameter(torch.ones(5, dtype=torch.float16))
state["transformer.h.0.brain"] = torch.full((2, 3), 1.5, dtype=torch.bfloat16)
state["part"] = torch.arange(10.0)[2:6]
state["scalar"] = torch.tensor(-1e4)
state["lm_head.weight"] = weight
state._metadata = collections.OrderedDict([("", {"version": 1})])
torch.save(state, os.path.join(sys.argv[1], "pytorch_model.bin"))
