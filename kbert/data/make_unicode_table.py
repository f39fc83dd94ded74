"""Make kbert/unicode_table.npz: what Google's BasicTokenizer does to each code point.

    python3.13 -m kbert.data.make_unicode_table

Run it with the Python whose Unicode version kbert should follow; the version is stored in the table.
The rules are those of google-research/bert `tokenization.py` (`BasicTokenizer`), which work on one
character at a time: delete controls, split at white space, isolate CJK and punctuation, lowercase,
decompose and drop accents. The one rule that looks around, the final sigma of lowercasing, gets a
table of its own. Layout: `kbert/data/tokenizer.py`, which reads it.
"""

import unicodedata
from pathlib import Path

import numpy as np

SPACE, SELF = 32, -1
OTHER, CASED, SKIPPED = 0, 1, 2  # a character's role next to a sigma
CJK = (
    (0x4E00, 0x9FFF),
    (0x3400, 0x4DBF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F),
    (0x2B820, 0x2CEAF),
    (0xF900, 0xFAFF),
    (0x2F800, 0x2FA1F),
)


def is_cjk(code: int) -> bool:
    """Return whether the reference isolates the character as Chinese."""
    return any(first <= code <= last for first, last in CJK)


def is_white(char: str) -> bool:
    """Return whether words end at it."""
    # str.split() also splits at the line and paragraph separators, which are in no Zs category.
    return char in " \t\n\r" or unicodedata.category(char) == "Zs" or char.isspace()


def is_punctuation(char: str) -> bool:
    """Return whether it is a word of its own."""
    code = ord(char)
    if 33 <= code <= 47 or 58 <= code <= 64 or 91 <= code <= 96 or 123 <= code <= 126:
        return True
    return unicodedata.category(char).startswith("P")


def normalised(code: int, lowercase: bool, strip_accents: bool) -> tuple[int, ...]:
    """Return the code points that stand for one code point; SPACE ends a word, SELF is the code point itself."""
    char = chr(code)
    if char not in "\t\n\r" and (code in (0, 0xFFFD) or unicodedata.category(char) in ("Cc", "Cf")):
        return ()
    if is_white(char):
        return (SPACE,)
    text = char.lower() if lowercase else char
    if strip_accents:
        text = "".join(c for c in unicodedata.normalize("NFD", text) if unicodedata.category(c) != "Mn")
    out: list[int] = []
    for c in text:
        one = SELF if c == char else ord(c)
        out += [SPACE, one, SPACE] if is_punctuation(c) else [one]
    return (SPACE, *out, SPACE) if is_cjk(code) else tuple(out)


def beside_sigma(code: int) -> int:
    """OTHER, CASED or SKIPPED, as Python's str.lower (Unicode's Final_Sigma) takes the character.

    A sigma is final after a cased letter and before none. Python says which characters it skips
    on the way only through what it makes of a sigma.
    """
    if normalised(code, False, False) == ():
        return SKIPPED  # gone before the text is lowercased
    if (chr(code) + "Σ").lower().endswith("ς"):
        return CASED
    return SKIPPED if ("A" + chr(code) + "Σ").lower().endswith("ς") else OTHER


def main() -> None:
    """Write the table."""
    classes: dict[tuple[int, ...], int] = {(SELF,): 0}
    blocks: dict[bytes, int] = {}
    stage1 = np.zeros((5, 0x1100), np.uint16)
    for variant in range(5):
        lowercase, strip_accents = bool(variant & 1), bool(variant & 2)
        for block in range(0x1100):
            row = np.zeros(256, np.uint16)
            for low in range(256):
                code = block << 8 | low
                if 0xD800 <= code <= 0xDFFF:
                    continue
                if variant == 4:
                    row[low] = beside_sigma(code)
                else:
                    row[low] = classes.setdefault(normalised(code, lowercase, strip_accents), len(classes))
            stage1[variant, block] = blocks.setdefault(row.tobytes(), len(blocks))
    length = np.array([len(out) for out in classes], np.uint8)
    path = Path(__file__).with_name("unicode_table.npz")
    np.savez_compressed(
        path,
        version=np.array(unicodedata.unidata_version),
        stage1=stage1,
        stage2=np.frombuffer(b"".join(blocks), np.uint16).reshape(-1, 256),
        start=np.concatenate([[0], np.cumsum(length[:-1], dtype=np.int64)]).astype(np.int32),
        length=length,
        codes=np.array([code for out in classes for code in out], np.int32),
    )
    print(f"{path}: Unicode {unicodedata.unidata_version}, {len(classes):,} classes, {len(blocks)} blocks")


if __name__ == "__main__":
    main()
