#!/usr/bin/env python3
"""make_tokenizers.py DIRECTORY: small tokenizer.json files, and the ids that Hugging Face's
tokenizers gives a set of texts with each: the reference of test_tokenizer_json.c.

Tokenizers are trained here, on the sentences below, so that everything in them is our own.  The
output is the same on every run (the package's version is in requirements.txt).
"""
import json
import os
import random
import sys

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers
from tokenizers import pre_tokenizers as pre
from tokenizers import trainers

CORPUS = """The printer on the second floor doesn't print; it's out of paper again.
I can't log in: the password I've set yesterday isn't accepted, they'll have to reset it.
Please send the invoice of March 2024 (no. 10483) to accounting, we're waiting for it.
Où est la réponse à ma question ? L'été dernier, c'était déjà la même chose.
Die Rechnung über 1.250,50 € ist fällig; Größe und Gewicht fehlen noch.
Принтер не печатает, пришлите мастера завтра утром.
这是一个关于大模型在市场上降价趋势的文章。价格已经下降了很多，用户很高兴。
プリンターが動きません。明日までに直してください。
프린터가 작동하지 않습니다. 내일까지 고쳐 주세요.
الطابعة لا تعمل، أرجو إصلاحها غدا.
x = [1, 2, 3];  y := x[0] + 10;\tif (y > 3) { return "ok"; }
😀 thanks 👍🏽 a lot 🇩🇪 !!!
""".splitlines() * 3

FIXED = [
    "", " ", "  ", "\n", "a", " a", "a ", "The printer doesn't print.", "THE PRINTER", "it's I'VE we'LL",
    "été e\u0301te\u0301 ÉTÉ", "naïve café Ångström ﬁne ① ½ ﷺ", "这是一个文章。", "大模型，市场 趋势！abc中文def",
    "プリンター ﾌﾟﾘﾝﾀｰ ぷりんた", "프린터가 작동하지", "الطابعة لا تعمل، أَرْجو", "Принтер ПЕЧАТАЕТ Ёё", "123 1234 ١٢٣ ４５ Ⅷ",
    "x=[1,2];y:=x[0]", "a\tb\r\nc\n\n\nd", "😀👍🏽🇩🇪 family: 👨‍👩‍👧‍👦", "\u00a0no-break\u2003em\u3000wide",
    "zero\u200bwidth\u200djoin\u00adsoft", "İstanbul ıI ſ ß ẞ Σίσυφος ΟΔΟΣ", "<tab>x<tab><tab> <tab", "  two    four  ",
    "line\u2028sep\u2029par\u0085nel", "[UNK] [CLS] hello [SEP] <unk>", "don’t “quote” — dash…", "a_b-c.d,e;f", "ｆｕｌｌ　ｗｉｄｔｈ！",
    "\u0301start mark", "가각힣 \u1100\u1161\u11a8", "क्षत्रिय नमस्ते", "ไทยไม่มีวรรค", "ελληνικά", "𝔘𝔫𝔦 𝟙𝟚 𠀀𪜀", "a" * 300, "ab" * 90 + " c",
]

ATOMS = ["the", " ", "  ", "\n", "printer", "'s", "'RE", "12", "7", "é", "e\u0301", "ß", "中", "文", "。", "，", "の", "プ",
         "한", "글", "س", "ل", "😀", "👍🏽", "-", "_", "!", "?", "<tab>", "\t", "\u00a0", "\u3000", "\u200d", "Ω", "Ж", "İ",
         "ﬁ", "①", "\u0301", "X", "reset", " invoice"]


def texts():
    rng = random.Random(7)
    mixed = ["".join(rng.choice(ATOMS) for _ in range(rng.randint(2, 24))) for _ in range(120)]
    return FIXED + CORPUS[:12] + mixed


def trained(tokenizer, trainer):
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def byte_level(pre_tokenizer, normalizer=None, size=420, **model):
    t = Tokenizer(models.BPE(**model))
    t.pre_tokenizer = pre_tokenizer
    t.decoder = decoders.ByteLevel()
    if normalizer:
        t.normalizer = normalizer
    return trained(t, trainers.BpeTrainer(
        vocab_size=size, special_tokens=["<|endoftext|>"], show_progress=False,
        initial_alphabet=pre.ByteLevel.alphabet()))


def gpt2():
    return byte_level(pre.ByteLevel(add_prefix_space=False))


def prefix():
    return byte_level(pre.ByteLevel(add_prefix_space=True), normalizers.NFC())


def split():
    pattern = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
               r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
    return byte_level(pre.Sequence([
        pre.Split(Regex(pattern), "isolated"), pre.ByteLevel(add_prefix_space=False, use_regex=False)]),
        ignore_merges=True)


def digits():
    t = byte_level(pre.Sequence([pre.Digits(individual_digits=True),
                                 pre.ByteLevel(add_prefix_space=False)]))
    t.add_tokens([AddedToken(" " * n, normalized=False) for n in (4, 2)] +
                 [AddedToken("<tab>", normalized=True)])
    return t


def compat():
    t = byte_level(pre.Sequence([pre.Punctuation("contiguous"), pre.ByteLevel(add_prefix_space=False)]),
                   normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()]))
    t.add_tokens([AddedToken("<tab>", normalized=True), AddedToken("X", normalized=False)])
    return t


def bert(lowercase, **options):
    t = Tokenizer(models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=100))
    t.normalizer = normalizers.BertNormalizer(lowercase=lowercase, **options)
    t.pre_tokenizer = pre.BertPreTokenizer()
    t.decoder = decoders.WordPiece()
    return trained(t, trainers.WordPieceTrainer(
        vocab_size=420, show_progress=False,
        special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]))


def words(pre_tokenizer, normalizer):
    t = Tokenizer(models.WordLevel(unk_token="<unk>"))
    t.normalizer = normalizer
    t.pre_tokenizer = pre_tokenizer
    return trained(t, trainers.WordLevelTrainer(vocab_size=150, show_progress=False,
                                                special_tokens=["<unk>"]))


TOKENIZERS = {
    "gpt2": gpt2,
    "prefix": prefix,
    "split": split,
    "digits": digits,
    "compat": compat,
    "uncased": lambda: bert(True),
    "cased": lambda: bert(False),
    "accents": lambda: bert(True, strip_accents=False, handle_chinese_chars=False),
    "words": lambda: words(pre.Whitespace(), normalizers.Sequence(
        [normalizers.NFD(), normalizers.StripAccents(), normalizers.Lowercase()])),
    "spaces": lambda: words(pre.Sequence([
        pre.WhitespaceSplit(), pre.Digits(), pre.Split(".", "removed"),
        pre.Split(Regex(r"\W"), "isolated")]), normalizers.NFKD()),
}


def main():
    directory = sys.argv[1]
    os.makedirs(directory, exist_ok=True)
    made = {}
    for name, make in TOKENIZERS.items():
        path = os.path.join(directory, name + ".json")
        make().save(path, pretty=False)
        made[name] = Tokenizer.from_file(path)
        # special tokens in a text are text
        made[name].encode_special_tokens = True
    with open(os.path.join(directory, "texts.jsonl"), "w", encoding="utf-8") as out:
        for text in texts():
            line = {"text": text}
            for name, tokenizer in made.items():
                line[name] = tokenizer.encode(text, add_special_tokens=False).ids
            out.write(json.dumps(line, separators=(",", ":")) + "\n")


main()
