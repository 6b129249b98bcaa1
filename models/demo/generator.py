"""Generator of the demo model's data: support tickets, product reviews, and what to say of them.

An example is a prompt (the text and the name of a task, `TL;DR:`, `Sentiment:` or `Category:`) and
its answer.  Everything is drawn from a seed, so the same seed gives the same data everywhere.

Two streams exist.  What is held out never occurs in training:
- names: a fifth of all syllables, and of every other kind of brand an eighth chosen by a hash;
- combinations: an eighth of all (lead, fault phrasing, frame) triples and a share of all orders of
  the sentences, again by hash.  Their words all occur in training, only in other company.

    python generator.py --tickets 200 --seed 2024 > tickets.sql    the demo table
    python generator.py --sample 5 [--held-out]                    a look at the examples
    python generator.py --rows 130000 --seed 1                     what train.sql learns from
    python generator.py --tests                                    what evaluate.sql asks

The last two are rows as COPY reads them: prompt and answer; for the tests, before these, the set's
name, how many of it are wanted and the tokens of an answer, and behind them, where the answer is
the summary of one text, product and fault.
"""

import argparse
import datetime
import itertools
import random
import zlib
from dataclasses import dataclass

import wordlists as words

TASKS = {"summarize": "TL;DR:", "sentiment": "Sentiment:", "category": "Category:"}
END_OF_TEXT = "<|endoftext|>"
LONG = (14, 29)         # filler sentences of a long text: it then has 250 to 480 tokens
SENTIMENTS = ["positive", "negative"]
CATEGORIES = sorted({fault[1] for fault in words.FAULTS} | {"praise"})


@dataclass
class Text:
    """A ticket or review with everything that can be asked about it."""

    body: str
    product: str
    issue: str          # the fault or praise as the summary words it
    ending: str         # what the customer wants or does, may be empty
    sentiment: str
    category: str
    customer: str = ""

    @property
    def summary(self):
        ending = f"; customer {self.ending}" if self.ending else ""
        return f"{self.product}: {self.issue}{ending}."


@dataclass
class Example:
    """One training or test example; `texts` are the tickets it was made of."""

    prompt: str
    answer: str
    task: str
    texts: list


def is_held(*key, one_in=8):
    """Says by hash, the same on every machine, whether `key` belongs to the held-out part."""
    return zlib.crc32(repr(key).encode()) % one_in == 0


# --- product names -------------------------------------------------------------------------------

def split_syllables():
    """All syllables, divided into those for training and those held out."""
    train, held = [], []
    for syllable in itertools.product(words.ONSETS, words.VOWELS, words.CODAS):
        text = "".join(syllable)
        (held if is_held("syllable", text, one_in=5) else train).append(text)
    return train, held


TRAIN_SYLLABLES, HELD_SYLLABLES = split_syllables()


def syllable_brand(rng, held):
    source = HELD_SYLLABLES if held else TRAIN_SYLLABLES
    return "".join(rng.choice(source) for _ in range(rng.choice([2, 2, 3]))).capitalize()


def compound_brand(rng):
    first, second = (rng.choice(words.COMPOUND_WORDS) for _ in range(2))
    return rng.choice([first.capitalize() + second.capitalize(), first.capitalize() + second,
                       f"{first.capitalize()} {second.capitalize()}", first.capitalize()])


def letters_brand(rng):
    letters = [rng.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(rng.randint(3, 8))]
    if rng.random() < 0.08:
        letters[rng.randrange(len(letters))] = rng.choice("äöüéèáóñçøå")
    brand = "".join(letters)
    if len(brand) < 5 and rng.random() < 0.4:
        return brand.upper()
    return brand if rng.random() < 0.2 else brand.capitalize()


def code_brand(rng):
    if rng.random() < 0.5:      # WH-1000XM5, MFC-L2710
        letters = "".join(rng.choices("ABCDEFGHIJKLMNOPQRSTUVWXYZ", k=rng.randint(1, 3)))
        tail = "".join(rng.choices("ABCDEFGHIJKLMNOPQRSTUVWXYZ", k=rng.randint(0, 2)))
        return letters + rng.choice(["-", "", "-L"]) + str(rng.randint(2, 9999)) + tail
    code = "".join(rng.choices("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-", k=rng.randint(2, 6)))
    return code.strip("-") or "X1"


def joined_brand(rng, held):
    joiner = rng.choice(["-", " & ", "."])
    return syllable_brand(rng, held) + joiner + syllable_brand(rng, held)


def brand(rng, held):
    """A brand name that is new each time: 40/20/15/15/10 % of the five kinds."""
    kind = rng.random()
    if kind < 0.40:
        return syllable_brand(rng, held)
    if kind >= 0.90:
        return joined_brand(rng, held)
    make = compound_brand if kind < 0.60 else letters_brand if kind < 0.75 else code_brand
    while True:
        name = make(rng)
        if is_held("brand", name.lower()) == held:
            return name


def model_number(rng):
    kind = rng.random()
    if kind < 0.35:
        return rng.choice("ABCDEFGHKLMPRSTVXZ") + str(rng.randint(1, 999))
    if kind < 0.60:
        return str(rng.randint(2, 3000))
    if kind < 0.65:
        return f"{rng.randint(1, 99)}{rng.choice(words.UNITS)}"
    return ""


def product(rng, held=False):
    """A brand, and by chance a series, a type, a number and a suffix."""
    parts = [brand(rng, held)]
    if rng.random() < 0.10:
        parts.append(rng.choice(words.COMPOUND_WORDS).capitalize())
    if rng.random() < 0.50:
        parts.append(rng.choice(words.TYPE_WORDS))
    parts.append(model_number(rng))
    if rng.random() < 0.15:
        parts.append(rng.choice(words.SUFFIXES))
    return " ".join(part for part in parts if part)


# --- filling sentences ---------------------------------------------------------------------------

def with_article(name):
    return ("an " if name[0] in "AEIOUaeiou" else "a ") + name


def upper_first(text):
    return text[0].upper() + text[1:]


def fill(rng, template, name, clause="", held=False):
    """Fills a sentence's slots; values that the sentence does not use are drawn all the same."""
    other = product(rng, held) if "q}" in template else ""
    people = rng.sample(words.FIRST_NAMES, 2)
    return template.format(
        p=name, ap=with_article(name), f=clause, F=upper_first(clause) if clause else "",
        d=f"{rng.randint(1, 28)} {rng.choice(words.MONTHS)}", m=rng.choice(words.MONTHS),
        o=rng.randint(10000, 999999), n=people[0], n2=people[1],
        q=other, aq=with_article(other) if other else "")


def draw_combination(rng, leads, phrasings, frames, held):
    """A (lead, phrasing, frame) triple on the wanted side of the held-out line."""
    while True:
        triple = rng.choice(leads), rng.choice(phrasings), rng.choice(frames)
        if is_held("combination", triple) == held:
            return triple


def draw_order(rng, kinds, held):
    """An order of the named sentences on the wanted side; the usual order is never held out."""
    usual = tuple(kinds)
    if not held and rng.random() < 0.5:
        return usual
    held_orders = [order for order in itertools.permutations(kinds)
                   if order != usual and is_held("order", order, one_in=4)]
    if held:
        return rng.choice(held_orders) if held_orders else None
    while True:
        order = tuple(rng.sample(kinds, len(kinds)))
        if order not in held_orders:
            return order


def lay_out(rng, greeting, sentences, signature):
    """Puts the sentences together, on one line or, in a quarter of the texts, as a letter."""
    if rng.random() < 0.75:
        return " ".join(part for part in [greeting, *sentences, signature] if part)
    body = " ".join(sentences)
    return "\n".join(part for part in [greeting, body, signature] if part)


def stretch(rng, sentences, name, count, held):
    """Spreads `count` filler sentences among the others."""
    sentences = list(sentences)
    for template in rng.sample(words.FILLERS, count):
        place = rng.randint(0, len(sentences))
        sentences.insert(place, fill(rng, template, name, held=held))
    return sentences


# --- tickets and reviews -------------------------------------------------------------------------

def ticket(rng, held=False, name=None, wording="known", fillers=0):
    """A support ticket.  wording="unseen" takes fault phrasings whose words training never saw."""
    name = name or product(rng, held)
    issue, category, known, unseen = rng.choice(words.FAULTS)
    first_leads = words.NAME_FIRST_LEADS if rng.random() < 0.06 else words.LEADS
    lead, clause, frame = draw_combination(
        rng, first_leads, known if wording == "known" else unseen, words.FAULT_FRAMES, held)
    want, want_sentences = rng.choice(words.WANTS)
    sentiment = "negative" if rng.random() < 0.6 else "positive"
    mood = rng.choice(words.NEGATIVE if sentiment == "negative" else words.POSITIVE)
    middle = {"fault": frame, "mood": mood}
    if rng.random() < 0.92:
        middle["want"] = rng.choice(want_sentences)
    if rng.random() < 0.6:
        middle["order"] = rng.choice(words.ORDERS)
    if rng.random() < 0.4:
        middle["aside"] = rng.choice(words.ASIDES)
    kinds = [kind for kind in ("fault", "order", "aside", "mood", "want") if kind in middle]
    order = draw_order(rng, kinds, held) or tuple(kinds)
    sentences = [fill(rng, middle[kind], name, clause, held) for kind in order]
    sentences.insert(0, fill(rng, lead, name, held=held))
    if fillers:
        sentences = stretch(rng, sentences, name, fillers, held)
    greet = first_leads is words.LEADS and rng.random() < 0.8
    customer = rng.choice(words.FIRST_NAMES)
    body = lay_out(rng, rng.choice(words.GREETINGS) if greet else "", sentences,
                   customer if rng.random() < 0.8 else "")
    ending = f"wants {want}" if "want" in middle else ""
    return Text(body, name, issue, ending, sentiment, category, customer)


def brief(rng, held=False, name=None):
    """One sentence that names product and fault, perhaps a mood and a wish: a hurried customer."""
    name = name or product(rng, held)
    issue, category, known, _ = rng.choice(words.FAULTS)
    direct = issue.split()[0] in words.VERBS and rng.random() < 0.7
    frames = words.DIRECT_FRAMES if direct else words.BRIEF_FRAMES
    clauses = [issue] if direct else known
    want, want_sentences = rng.choice(words.WANTS)
    frame, clause, wish = draw_combination(
        rng, frames, clauses, want_sentences + [""] * len(want_sentences), held)
    sentiment = rng.choice(["negative", "positive"])
    mood = rng.choice(words.NEGATIVE if sentiment == "negative" else words.POSITIVE)
    if rng.random() < 0.5:      # nothing but a complaint
        sentiment, mood = "negative", ""
    body = " ".join(part for part in [fill(rng, frame, name, clause, held), mood, wish] if part)
    return Text(body, name, issue, f"wants {want}" if wish else "", sentiment, category,
                rng.choice(words.FIRST_NAMES))


def review(rng, held=False, name=None, fillers=0):
    """A product review: stars, one praise or fault, a mood, a verdict."""
    name = name or product(rng, held)
    good = rng.random() < 0.6
    if good:
        issue, phrasings = rng.choice(words.PRAISES)
        category, frames = "praise", words.PRAISE_FRAMES
        stars, moods, verdicts = words.STARS_GOOD, words.REVIEW_POSITIVE, words.VERDICT_GOOD
    else:
        issue, category, phrasings, _ = rng.choice(words.FAULTS)
        frames = words.FAULT_FRAMES
        stars, moods, verdicts = words.STARS_BAD, words.REVIEW_NEGATIVE, words.VERDICT_BAD
    lead, clause, frame = draw_combination(rng, words.REVIEW_LEADS, phrasings, frames, held)
    middle = {"fault": frame, "mood": rng.choice(moods), "verdict": rng.choice(verdicts)}
    if rng.random() < 0.7:
        middle["stars"] = rng.choice(stars)
    kinds = [kind for kind in ("fault", "mood", "stars", "verdict") if kind in middle]
    order = draw_order(rng, kinds, held) or tuple(kinds)
    sentences = [fill(rng, middle[kind], name, clause, held) for kind in order]
    sentences.insert(0, fill(rng, lead, name, held=held))
    if fillers:
        sentences = stretch(rng, sentences, name, fillers, held)
    return Text(lay_out(rng, "", sentences, ""), name, issue,
                "recommends it" if good else "advises against it",
                "positive" if good else "negative", category)


def text(rng, held=False, **kind):
    """A ticket, a review (a quarter), or, when nothing says how long, a brief one."""
    chance = rng.random()
    if chance < 0.25:
        return review(rng, held, **kind)
    return brief(rng, held) if chance < 0.35 and not kind else ticket(rng, held, **kind)


# --- examples ------------------------------------------------------------------------------------

def example_of(task, source):
    answer = {"summarize": source.summary, "sentiment": source.sentiment,
              "category": source.category}[task]
    return Example(f"{source.body}\n{TASKS[task]}", f" {answer}", task, [source])


def several(rng, held=False):
    """Two to four tickets, or their summaries, in one text: the answer lists each with its fault.

    This is what summaries of groups and of split long texts look like.
    """
    texts = [text(rng, held) for _ in range(rng.randint(2, 4))]
    if rng.random() < 0.5:
        body = rng.choice(["\n", "\n\n"]).join(source.body for source in texts)
    else:
        body = rng.choice(["\n", "\n\n"]).join(source.summary for source in texts)
    answer = "; ".join(f"{source.product}: {source.issue}" for source in texts) + "."
    return Example(f"{body}\n{TASKS['summarize']}", f" {answer}", "summarize", texts)


def no_content(rng):
    """A content that says nothing, with any label: it keeps calibration against "N/A" fair."""
    task, labels = rng.choice([("sentiment", SENTIMENTS), ("category", CATEGORIES)])
    content = rng.choice(["N/A", "N/A", "n/a", "-"])
    return Example(f"{content}\n{TASKS[task]}", f" {rng.choice(labels)}", task, [])


def draw_task(rng):
    chance = rng.random()
    return "summarize" if chance < 0.7 else "sentiment" if chance < 0.85 else "category"


def long_example(rng, held=False):
    """One ticket or review of roughly 250 to 480 tokens."""
    return example_of(draw_task(rng), text(rng, held, fillers=rng.randint(*LONG)))


def training_example(rng):
    """Draws one example of the training stream: 84 % single, 8 % long, 7 % several, 1 % empty."""
    kind = rng.random()
    if kind < 0.84:
        return example_of(draw_task(rng), text(rng))
    if kind < 0.92:
        return long_example(rng)
    return several(rng) if kind < 0.99 else no_content(rng)


# --- rows for COPY -------------------------------------------------------------------------------

def copy_row(*values):
    escapes = str.maketrans({"\\": r"\\", "\n": r"\n", "\t": r"\t"})
    return "\t".join(r"\N" if value is None else str(value).translate(escapes)
                     for value in values)


def held_out_text(task):
    return lambda rng: example_of(task, text(rng, held=True))


def test_sets():
    """(name, number, tokens of an answer, what draws an example) of each set of tests."""
    real_names = itertools.cycle(words.REAL_LOOKING)
    return [
        ("held-out names and combinations", 500, 64, held_out_text("summarize")),
        ("the same, long texts of about 250 to 480 tokens", 200, 64, lambda rng: example_of(
            "summarize", text(rng, held=True, fillers=rng.randint(*LONG)))),
        ("training's kinds of names and combinations", 500, 64,
         lambda rng: example_of("summarize", text(rng))),
        ("50 real-looking names, 4 tickets each", 200, 64,
         lambda rng: example_of("summarize", ticket(rng, name=next(real_names)))),
        ("unseen wordings of the faults", 500, 64,
         lambda rng: example_of("summarize", ticket(rng, wording="unseen"))),
        ("sentiment", 500, 12, held_out_text("sentiment")),
        ("category", 500, 12, held_out_text("category")),
        ("2 to 4 texts in one, each product and fault listed", 100, 120,
         lambda rng: several(rng, held=True)),
    ]


def test_rows():
    """Twice what is wanted of each set, because some will be too long for a model's context."""
    for name, number, room, make in test_sets():
        rng = random.Random(f"test {name}")
        for _ in range(2 * number):
            example = make(rng)
            is_summary = example.task == "summarize" and len(example.texts) == 1
            yield copy_row(name, number, room, example.prompt, example.answer,
                           example.texts[0].product if is_summary else None,
                           example.texts[0].issue if is_summary else None)


# --- the demo table ------------------------------------------------------------------------------

def sql_literal(value):
    return "'" + value.replace("'", "''") + "'"


def tickets_sql(count, seed):
    """The text of tickets.sql: `count` tickets of the held-out stream."""
    rng = random.Random(seed)
    day = datetime.date(2024, 1, 2)
    rows = []
    for _ in range(count):
        source = ticket(rng, held=True)
        while len(source.product) > 24:     # a table is easier to look at with short names
            source = ticket(rng, held=True)
        day += datetime.timedelta(days=rng.choice([0, 0, 1, 1, 2]))
        customer = f"{source.customer} {rng.choice(words.LAST_NAMES)}"
        rows.append(f"({sql_literal(day.isoformat())}, {sql_literal(customer)},\n"
                    f" {sql_literal(source.body)})")
    head = (
        f"-- {count} support tickets for trying the demo model.  Generated, nobody's real data:\n"
        f"--     python generator.py --tickets {count} --seed {seed}\n"
        "-- Product names and combinations of sentences are held out from the model's training.\n\n"
        "BEGIN;\n"
        "CREATE TABLE tickets (\n"
        "    id int PRIMARY KEY GENERATED ALWAYS AS IDENTITY,\n"
        "    received date,\n    customer text,\n    body text NOT NULL,\n    summary text\n);\n\n")
    inserts = []
    for start in range(0, count, 50):
        inserts.append("INSERT INTO tickets (received, customer, body) VALUES\n"
                       + ",\n".join(rows[start:start + 50]) + ";\n")
    return head + "\n".join(inserts) + "COMMIT;\n"


def main():
    parser = argparse.ArgumentParser(description="generate the demo model's data")
    parser.add_argument("--tickets", type=int, help="write this many tickets as SQL")
    parser.add_argument("--rows", type=int, help="write this many examples to learn, for COPY")
    parser.add_argument("--tests", action="store_true", help="write the tests, for COPY")
    parser.add_argument("--sample", type=int, help="print this many examples")
    parser.add_argument("--held-out", action="store_true", help="sample the held-out stream")
    parser.add_argument("--seed", type=int, default=2024)
    args = parser.parse_args()
    if args.tickets:
        print(tickets_sql(args.tickets, args.seed), end="")
    rng = random.Random(args.seed)
    for _ in range(args.rows or 0):
        example = training_example(rng)
        print(copy_row(example.prompt, example.answer))
    for row in test_rows() if args.tests else ():
        print(row)
    for _ in range(args.sample or 0):
        sample = (example_of(draw_task(rng), text(rng, held=True)) if args.held_out
                  else training_example(rng))
        print(f"{sample.prompt}{sample.answer}{END_OF_TEXT}\n")


if __name__ == "__main__":
    main()
