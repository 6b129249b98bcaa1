"""What the scripts share whose file is of one model: make_decoding.py, make_scores.py."""

import argparse
import dataclasses
import os
import tempfile

import torch
import transformers

import synth
from make_vectors import header, load


def main(description, model, name, what, script, write_cases):
    """Writes the file `name`: its header, the model, and what write_cases(out, m32, m64) writes,
    which gets the model in float32 and in float64."""
    parser = argparse.ArgumentParser(description=description.split("\n")[0])
    here = os.path.dirname(os.path.abspath(__file__))
    parser.add_argument("--out", default=os.path.join(here, "data"), help="where to write")
    args = parser.parse_args()

    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as folder:
        synth.synth(folder, model)
        sha256 = synth.hash_folder(folder)
        m32, m64 = load(folder, torch.float32), load(folder, torch.float64)
    with open(os.path.join(args.out, name), "w", encoding="ascii", newline="\n") as out:
        header(out, what, script)
        out.write("model\n")
        for field in dataclasses.fields(model):
            value = getattr(model, field.name)
            if field.name == "activation":
                value = synth.ACTIVATIONS.index(value)
            out.write(f"{field.name} {int(value) if isinstance(value, bool) else value}\n")
        out.write(f"sha256 {sha256}\n")
        write_cases(out, m32, m64)
