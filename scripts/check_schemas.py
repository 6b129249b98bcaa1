#!/usr/bin/env python3
"""check_schemas.py: JSON schemas made at random, a text of the demo model for each within a budget
made at random, and the verdict of another validator (jsonschema from PyPI, draft 2020-12).

    python scripts/check_schemas.py [--schemas 1000] [--seed 1] [--engine build/gpt2_engine]
                                    [--model models/demo]

Where a budget is too small the engine says how many tokens the text needs; with so many it is asked
again, and must answer.  Exit status 0: every text is JSON that its schema allows.
"""
import argparse
import json
import random
import re
import subprocess
import sys
import tempfile

import jsonschema

NAMES = ["a", "name", 'with "quotes"', "ü", "items", "kind"]
STRINGS = ["", "a", "new\nline", 'quote"', "ä你", "back\\slash", "a longer string"]
PATTERNS = ["^[a-z]{2,5}$", "[0-9]+", "^x|y$", "^(ab|c)*$", '"', r"^\d{3}-\d{4}$", "^.{0,3}$", "[^a-z]"]
DEFINITIONS = {
    "list": {"type": "object", "required": ["value"], "properties": {
        "value": {"type": "integer"}, "next": {"$ref": "#/$defs/list"}}},
    "pair": {"type": "array", "maxItems": 2, "items": {
        "anyOf": [{"$ref": "#/$defs/pair"}, {"type": "boolean"}]}},
}


def value(rng, depth):
    kind = rng.randrange(7 if depth else 5)
    if kind == 0:
        return None
    if kind == 1:
        return rng.random() < 0.5
    if kind == 2:
        return rng.randint(-1000, 1000)
    if kind == 3:
        return rng.randint(-8000, 8000) / 8
    if kind == 4:
        return rng.choice(STRINGS)
    if kind == 5:
        return [value(rng, depth - 1) for _ in range(rng.randrange(3))]
    return {name: value(rng, depth - 1) for name in rng.sample(NAMES, rng.randrange(3))}


def number(rng, schema):
    scale = rng.choice([1, 10, 1000, 1e6, 0.5, 0.125, 0.01])
    low = rng.randint(-100, 100) * scale
    high = low + (1 + rng.randrange(200)) * rng.choice([1, 10, 1000, 0.5, 0.01])
    if rng.random() < 0.5:
        schema[rng.choice(["minimum", "exclusiveMinimum"])] = low
    if rng.random() < 0.5:
        schema[rng.choice(["maximum", "exclusiveMaximum"])] = high


def string(rng, schema):
    least = rng.randrange(4)
    if rng.random() < 0.3:
        schema["pattern"] = rng.choice(PATTERNS)
        return
    if rng.random() < 0.5:
        schema["minLength"] = least
    if rng.random() < 0.5:
        schema["maxLength"] = least + rng.randrange(20)


def make_schema(rng, depth):
    kind = rng.randrange(11 if depth else 6)
    schema = {}
    if kind == 0:
        schema["type"] = rng.choice(["null", "boolean"])
    elif kind == 1:
        schema["type"] = rng.choice(["integer", "number"])
        number(rng, schema)
    elif kind == 2:
        schema["type"] = "string"
        string(rng, schema)
    elif kind == 3:
        schema["enum"] = [value(rng, 2) for _ in range(1 + rng.randrange(4))]
    elif kind == 4:
        schema["const"] = value(rng, 2)
    elif kind == 5:
        schema["type"] = rng.sample(["null", "boolean", "integer", "number", "string"],
                                    1 + rng.randrange(4))
        number(rng, schema)
        string(rng, schema)
    elif kind in (6, 7):
        names = rng.sample(NAMES, rng.randrange(len(NAMES)))
        schema["type"] = "object"
        schema["properties"] = {name: make_schema(rng, depth - 1) for name in names}
        schema["required"] = [name for name in names if rng.random() < 0.5]
        if rng.random() < 0.5:
            schema["additionalProperties"] = rng.random() < 0.5
    elif kind == 8:
        least = rng.randrange(3)
        schema["type"] = "array"
        schema["items"] = make_schema(rng, depth - 1)
        schema["minItems"] = least
        if rng.random() < 0.5:
            schema["maxItems"] = least + rng.randrange(3)
    elif kind == 9:
        schema["anyOf"] = [make_schema(rng, depth - 1) for _ in range(1 + rng.randrange(3))]
    else:
        return {"$ref": rng.choice(["#/$defs/list", "#/$defs/pair"])}
    return schema


def generate(options, schema, budget, temperature, seed):
    """(text, None) or (None, what the engine says)."""
    done = subprocess.run(
        [options.engine, "generate", "--model", options.model, "--packs", options.packs,
         "--prompt", "JSON: ", "--json-schema", json.dumps(schema, ensure_ascii=False),
         "--max-len", str(budget), "--temperature", str(temperature), "--seed", str(seed)],
        capture_output=True, text=True)
    # The engine ends the text with a line feed.
    return (done.stdout[:-1], None) if done.returncode == 0 else (None, done.stderr)


def check(options, rng, counts):
    schema = make_schema(rng, 3)
    schema["$defs"] = DEFINITIONS
    jsonschema.Draft202012Validator.check_schema(schema)
    temperature, seed, budget = rng.choice([0, 1, 3]), rng.randrange(1 << 31), 1 + rng.randrange(120)
    text, error = generate(options, schema, budget, temperature, seed)
    needed = error and re.search(r"The text needs (\d+) tokens", error)
    if needed and int(needed[1]) <= 400:
        counts["too small at first"] += 1
        text, error = generate(options, schema, int(needed[1]), temperature, seed)
    if error is not None:
        for why in ("no text satisfies", "too complex", "max_len is too small"):
            if why in error:
                counts[why] += 1
                return
        sys.exit(f"{json.dumps(schema)}\n{error}")
    try:
        jsonschema.Draft202012Validator(schema).validate(json.loads(text))
    except (ValueError, jsonschema.ValidationError) as wrong:
        sys.exit(f"{json.dumps(schema)}\n{text}\n{wrong}")
    counts["valid"] += 1


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--schemas", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--engine", default="build/gpt2_engine")
    parser.add_argument("--model", default="models/demo")
    options = parser.parse_args()
    counts = {"valid": 0, "too small at first": 0, "no text satisfies": 0, "too complex": 0,
              "max_len is too small": 0}
    rng = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as options.packs:
        for _ in range(options.schemas):
            check(options, rng, counts)
    print(", ".join(f"{why}: {n}" for why, n in counts.items()))
    if counts["valid"] < 0.8 * options.schemas:
        sys.exit("too few schemas had a text")


if __name__ == "__main__":
    main()
