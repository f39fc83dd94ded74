"""Record what seqeval makes of sequences of tags, whole and broken, for tests that run without it.

    python tests/record_seqeval.py

Run it in an environment with seqeval 1.2.2, and without kbert. Writes recorded/seqeval.json: for each
scheme gold and predicted sequences, the entities of each as seqeval's default mode reads them, and
precision, recall and F1 (micro, macro, by type); `whole` has sequences without breaks, in default and strict mode;
`tokens` for each scheme gold as it may stand in a file, predictions of IOB2 without breaks, and micro F1, macro F1, strict
F1 and accuracy of these, written in the scheme.
"""

import importlib.metadata
import json
import random
import sys
from pathlib import Path

from seqeval.metrics import accuracy_score, f1_score, sequence_labeling, v1
from seqeval.scheme import BILOU, IOB1, IOB2, IOBES

HERE = Path(__file__).parent / "recorded"
PREFIXES = {"IOB2": "BI", "BIOES": "BIES"}
TYPES = ("LOC", "PER", "time-of-day")


def scores(gold: list[list[str]], predicted: list[list[str]], strict: bool = False) -> dict[str, list]:
    """Precision, recall and F1 as lists; by type in the order of their names."""
    out = {}
    for average in ("micro", "macro", None):
        if strict:
            found = v1.precision_recall_fscore_support(gold, predicted, average=average, zero_division=0, scheme=IOB2)
        else:
            found = sequence_labeling.precision_recall_fscore_support(gold, predicted, average=average, zero_division=0)
        out[str(average)] = [list(map(float, part)) if average is None else float(part) for part in found[:3]]
    return out


def whole(rng: random.Random, words: int) -> list[str]:
    """A sequence of IOB2 without a break."""
    tags: list[str] = []
    while len(tags) < words:
        kind = rng.choice(TYPES)
        tags += rng.choice([["O"], ["B-" + kind], ["B-" + kind, "I-" + kind], ["B-" + kind] + ["I-" + kind] * 2])
    return tags[:words]


def respelt(tags: list[str], scheme: str) -> list[str]:
    """Tags of IOB2 without a break in another scheme."""
    out = []
    for before, tag, behind in zip(["O", *tags], tags, [*tags[1:], "O"], strict=False):
        prefix, dash, kind = tag.partition("-")
        goes_on = behind == f"I-{kind}"
        if scheme == "IOB1" and prefix == "B" and not (before.partition("-")[2] == kind and before != "O"):
            prefix = "I"
        elif scheme in ("BIOES", "BILOU") and prefix != "O" and not goes_on:
            prefix = {"BIOES": "SE", "BILOU": "UL"}[scheme][prefix == "I"]
        out.append(prefix + dash + kind)
    return out


def over_tokens(rng: random.Random, name: str, scheme: type) -> dict[str, object]:
    """Sequences of a scheme, some broken, and predictions of IOB2 for them, with their figures."""
    gold, predicted = [], []
    for _ in range(80):
        row = whole(rng, rng.randrange(1, 9))
        predicted.append(row if rng.random() < 0.4 else whole(rng, len(row)))
        spelt = respelt(row, name)
        gold.append([rng.choice(spelt) if rng.random() < 0.1 else tag for tag in spelt])
    written = [respelt(row, name) for row in predicted]
    # The default mode knows no BILOU: L is its E, U its S.
    sides = [[[{"L": "E", "U": "S"}.get(tag[0], tag[0]) + tag[1:] for tag in row] for row in rows] for rows in (gold, written)]
    figures = [
        f1_score(*sides),
        f1_score(*sides, average="macro"),
        f1_score(gold, written, mode="strict", scheme=scheme),
        accuracy_score(gold, written),
    ]
    return {"gold": gold, "predicted": predicted, "scores": [float(figure) for figure in figures]}


def main() -> int:
    """Record entities and figures."""
    rng = random.Random(0)
    document: dict[str, object] = {"python": sys.version.split()[0], "seqeval": importlib.metadata.version("seqeval")}
    for scheme, prefixes in PREFIXES.items():
        tags = ["O"] * 4 + [f"{prefix}-{kind}" for prefix in prefixes for kind in TYPES]
        gold = [[rng.choice(tags) for _ in range(rng.randrange(1, 9))] for _ in range(150)]
        predicted = [[tag if rng.random() < 0.7 else rng.choice(tags) for tag in row] for row in gold]
        document[scheme] = {
            "gold": gold,
            "predicted": predicted,
            "entities": [[sequence_labeling.get_entities(row) for row in rows] for rows in (gold, predicted)],
            "scores": scores(gold, predicted),
        }
    gold = [whole(rng, rng.randrange(1, 12)) for _ in range(150)]
    predicted = [row if rng.random() < 0.4 else whole(rng, len(row)) for row in gold]
    document["whole"] = {
        "gold": gold,
        "predicted": predicted,
        "default": scores(gold, predicted),
        "strict": scores(gold, predicted, strict=True),
    }
    schemes = {"IOB1": IOB1, "IOB2": IOB2, "BIOES": IOBES, "BILOU": BILOU}
    document["tokens"] = {name: over_tokens(rng, name, scheme) for name, scheme in schemes.items()}
    (HERE / "seqeval.json").write_text(json.dumps(document) + "\n")
    print(f"recorded in Python {document['python']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
