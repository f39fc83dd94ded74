"""Convert aspect terms to CoNLL columns: the three-line layout of aspect sentiment sets to `token tag`.

    python tools/terms_to_conll.py data/restaurants14/train.seg data/restaurants14/train.conll

In: three lines an example: a tokenised sentence with `$T$` for the term, the term, a label that
is not used. A sentence is repeated for each of its terms. Out: each sentence once, its terms as
B-TERM and I-TERM (IOB2); of overlapping terms the first is kept.
"""

import argparse
import sys
from pathlib import Path


def sentences(lines: list[str]) -> dict[tuple[str, ...], list[str]]:
    """Return the tokens of each sentence and their tags, in order."""
    found: dict[tuple[str, ...], list[str]] = {}
    for sentence, term in zip(lines[::3], lines[1::3], strict=False):
        before, _, after = sentence.partition("$T$")
        head, middle = before.split(), term.split()
        tokens = (*head, *middle, *after.split())
        tags = found.setdefault(tokens, ["O"] * len(tokens))
        place = slice(len(head), len(head) + len(middle))
        if set(tags[place]) == {"O"}:
            tags[place] = ["B-TERM", *["I-TERM"] * (len(middle) - 1)]
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="file of the three-line layout")
    parser.add_argument("target", type=Path, help="file to write")
    arguments = parser.parse_args()
    try:
        if arguments.target.exists() and arguments.source.samefile(arguments.target):
            raise ValueError("the file to write is the input file")
        lines = arguments.source.read_text(encoding="utf-8-sig").splitlines()
        if not lines or len(lines) % 3 or not all("$T$" in line for line in lines[::3]):
            raise ValueError("expected three lines an example, the first with $T$")
        found = sentences(lines)
    except (OSError, ValueError) as error:
        print(f"terms_to_conll: {arguments.source}: {error}", file=sys.stderr)
        return 1
    text = "\n".join("".join(f"{a} {b}\n" for a, b in zip(*item, strict=True)) for item in found.items())
    try:
        arguments.target.write_text(text, encoding="utf-8")
    except OSError as error:
        print(f"terms_to_conll: {arguments.target}: cannot be written: {error.strerror}", file=sys.stderr)
        return 1
    print(f"{len(found):,} sentences, {sum(tags.count('B-TERM') for tags in found.values()):,} terms: {arguments.target}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
