"""Google's own tokenizer as a witness of kbert's, over every code point and over random strings.

    python tests/witness_text.py --vocab=vocab.txt --lowercase [--strings=200000] [--seed=0]

prints the number of texts whose ids differ, and the first of them. `test_witness.py` runs a share of
it. The witness is `tokenization.py` of google-research/bert, as the package bert-tensorflow carries
it: its own file, checked by its hash, with Unicode's tables at the version of kbert's.
"""

import argparse
import functools
import hashlib
import importlib.metadata
import importlib.util
import sys
import types
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

SHA256 = "8e76b522bc378162c357552136ca648fb02689b28a96d0054bc6cb4cce6b1416"
UNICODE = "15.1.0"


@functools.cache
def google() -> types.ModuleType:
    """Google's `tokenization` module."""
    files = importlib.metadata.files("bert-tensorflow") or []
    path = next(Path(str(f.locate())) for f in files if f.name == "tokenization.py")
    assert hashlib.sha256(path.read_bytes()).hexdigest() == SHA256, f"{path} is not the pinned version"
    spec = importlib.util.spec_from_file_location("google_tokenization", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.FLAGS = types.SimpleNamespace(preserve_unused_tokens=False)  # as its scripts run it by default
    if unicodedata.unidata_version != UNICODE:
        import unicodedata2

        assert unicodedata2.unidata_version == UNICODE
        module.unicodedata = unicodedata2
    return module


def full_tokenizer(vocabulary: list[str], lowercase: bool) -> Callable[[bytes], list[int]]:
    """Google's FullTokenizer over tokens instead of a file: text to ids."""
    module = google()
    ids = {token: i for i, token in enumerate(vocabulary)}
    basic = module.BasicTokenizer(do_lower_case=lowercase, vocab=ids)
    wordpiece = module.WordpieceTokenizer(vocab=ids)
    return lambda text: [ids[piece] for word in basic.tokenize(text) for piece in wordpiece.tokenize(word)]


def code_points(step: int, sparsely: bool = False) -> Iterator[bytes]:
    """Every code point but surrogates: alone, between letters and doubled, `step` of them in a text.

    `sparsely` leaves out most of the planes where nothing is assigned but private use.
    """
    points = [chr(code) for code in range(0x110000) if not 0xD800 <= code <= 0xDFFF]
    if sparsely:
        points = [c for c in points if ord(c) < 0x32000 or 0xE0000 <= ord(c) < 0xE0200 or ord(c) % 101 == 0]
    for form in ("{0}", "a{0}b", "{0}{0}"):
        for start in range(0, len(points), step):
            yield " ".join(form.format(c) for c in points[start : start + step]).encode()


RANGES = {
    "ascii": [(0x20, 0x7E)],
    "latin": [(0xA0, 0x24F), (0x1E00, 0x1EFF)],
    "greek": [(0x370, 0x3FF), (0x1F00, 0x1FFF)],
    "cyrillic": [(0x400, 0x52F)],
    "semitic": [(0x591, 0x5F4), (0x600, 0x6FF)],
    "indic": [(0x900, 0xDFF)],
    "thai": [(0xE00, 0xEFF)],
    "hangul": [(0x1100, 0x11FF), (0xAC00, 0xD7A3)],
    "kana": [(0x3040, 0x30FF)],
    "han": [(0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0xF900, 0xFAFF)],
    "wide": [(0xFF00, 0xFFEF), (0x3000, 0x303F)],
    "marks": [(0x300, 0x36F), (0x20D0, 0x20F0), (0xFE00, 0xFE0F)],
    "controls": [(0, 0x1F), (0x7F, 0x9F), (0x200B, 0x200F), (0x2028, 0x202E), (0x2060, 0x206F), (0xFEFF, 0xFEFF)],
    "symbols": [(0x2000, 0x2BFF)],
    "emoji": [(0x1F300, 0x1FAFF), (0x200D, 0x200D), (0x1F3FB, 0x1F3FF), (0x1F1E6, 0x1F1FF)],
    "mathematical": [(0x1D400, 0x1D7FF)],
    "private": [(0xE000, 0xE0FF), (0xFFF0, 0xFFFF), (0xE0000, 0xE01EF)],
    "any": [(0, 0x10FFFF)],
}
PLAIN_WORDS = "the of and film unaffable embeddings 2019 3.14 C++ don't naïve ΟΔΟΣ ΣΑΣ İstanbul straße ﬁne Ǆ K Å 電影 很好 。 ， [CLS] [MASK] ##s".split()
BROKEN = [
    b"\xff",
    b"\xc3",
    b"\xe4\xb8",
    b"\xf0\x9f\x98",
    b"\xed\xa0\xbd",
    b"\xed\xb8\x80",
    b"\xc0\xaf",
    b"\xf4\x90\x80\x80",
    b"\x80",
]


def random_strings(count: int, seed: int) -> Iterator[bytes]:
    """Mixtures of scripts, marks, controls, emoji, halves of surrogate pairs, broken bytes, long words."""
    rng = np.random.default_rng(seed)
    names = list(RANGES)
    for _ in range(count):
        parts: list[bytes] = []
        mixture = [names[i] for i in rng.integers(len(names), size=3)]
        for kind in rng.choice(6, size=rng.integers(1, 12), p=[0.5, 0.25, 0.12, 0.08, 0.03, 0.02]):
            if kind == 0:
                ranges = RANGES[mixture[rng.integers(3)]]
                low, high = ranges[rng.integers(len(ranges))]
                codes = rng.integers(low, high + 1, size=rng.integers(1, 8))
                parts.append("".join(map(chr, codes)).encode("utf-8", "surrogatepass"))
            elif kind == 1:
                parts.append(str(rng.choice(PLAIN_WORDS)).encode())
            elif kind == 2:
                parts.append(b" ")
            elif kind == 3:
                parts.append(chr(rng.integers(0x300, 0x370)).encode())
            elif kind == 4:
                parts.append(BROKEN[rng.integers(len(BROKEN))])
            else:
                letter = str(rng.choice(["x", "é", "中", "각", "\u0301", "σ", "Σ", "１", "ａ", "x１"]))
                parts.append((letter * int(rng.integers(60, 210))).encode())
        yield b"".join(parts)


def differences(vocabulary: list[str], lowercase: bool, texts: Iterator[bytes]) -> tuple[int, list[bytes]]:
    """The number of texts, and those to which kbert's graph gives other ids than Google's code."""
    import tensorflow as tf

    from kbert.data.tokenizer import Tokenizer

    witness = full_tokenizer(vocabulary, lowercase)
    tokenizer = Tokenizer(vocabulary, lowercase=lowercase, strip_accents=lowercase)
    graph = tf.function(tokenizer.tokenize, input_signature=[tf.TensorSpec([None], tf.string)])
    total, found = 0, []
    batch: list[bytes] = []
    for text in [*texts, None]:
        if text is not None:
            batch.append(text)
        if batch and (text is None or len(batch) == 1024):
            ids = graph(tf.constant(batch)).to_list()
            found += [t for t, ours in zip(batch, ids, strict=True) if ours != witness(t)]
            total += len(batch)
            batch.clear()
    return total, found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vocab", type=Path, required=True)
    parser.add_argument("--lowercase", action="store_true")
    parser.add_argument("--strings", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    from kbert.data.vocabulary import read_vocabulary

    vocabulary = read_vocabulary(args.vocab)
    failed = False
    for name, texts in (("code points", code_points(1)), ("random strings", random_strings(args.strings, args.seed))):
        total, found = differences(vocabulary, args.lowercase, texts)
        failed |= bool(found)
        print(f"{name}: {total:,} texts, {len(found):,} with other ids", *(repr(t) for t in found[:5]), sep="\n  ", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
