"""Record what transformers' copy of SQuAD's official metrics says of pairs of answers, for tests that run without it.

    python tests/record_squad.py

Run it in an environment with transformers 4, and without kbert. Writes recorded/squad.json: rows of
gold answers, a predicted text and its exact match and F1; and a set of rows with no-answer margins
and the best threshold's figures.
"""

import json
import random
import sys
from pathlib import Path
from types import SimpleNamespace

import transformers
from transformers.data.metrics import squad_metrics

OUT = Path(__file__).parent / "recorded" / "squad.json"
WORDS = (
    "the a an The A. Cat's cat CATS dog, dog! the-end -- theatre 12.5 % $3 année Été ' \" an, _x_ 中文 。 ， 1,000 the".split(
        " "
    )
)


def text(rng: random.Random, most: int) -> str:
    """Some words with odd space between them."""
    return "".join(rng.choice(["", " ", "  ", "\t"]) + rng.choice(WORDS) + " " for _ in range(rng.randint(0, most)))


def main() -> int:
    """Record."""
    rng = random.Random(0)
    pairs = []
    for _ in range(600):
        gold = [text(rng, 5) for _ in range(rng.randint(0, 3))]
        predicted = rng.choice([text(rng, 5), *gold])
        example = SimpleNamespace(qas_id="q", answers=[{"text": answer} for answer in gold])
        exact, f1 = squad_metrics.get_raw_scores([example], {"q": predicted})
        pairs.append([gold, predicted, exact["q"], f1["q"]])
    sets = []
    for number in range(8):
        # The script's search takes a text of articles alone for an answer, its scores for none.
        plain = [pair for pair in pairs if bool(pair[1]) == bool(squad_metrics.normalize_answer(pair[1]))]
        rows = [[g, p, round(rng.gauss(0, 2), number % 3)] for g, p, _, _ in rng.sample(plain, 40)]
        examples = [SimpleNamespace(qas_id=str(i), answers=[{"text": t} for t in row[0]]) for i, row in enumerate(rows)]
        for example in examples:  # the script asks the answers themselves
            example.answers = [a for a in example.answers if squad_metrics.normalize_answer(a["text"])]
        has = {e.qas_id: bool(e.answers) for e in examples}
        predictions = {str(i): row[1] for i, row in enumerate(rows)}
        margins = {str(i): row[2] for i, row in enumerate(rows)}
        _, f1 = squad_metrics.get_raw_scores(examples, predictions)
        best, threshold = squad_metrics.find_best_thresh(predictions, f1, margins, has)
        sets.append({"rows": rows, "best_f1": best, "threshold": threshold})
    OUT.parent.mkdir(exist_ok=True)
    document = {"transformers": transformers.__version__, "pairs": pairs, "sets": sets}
    OUT.write_text(json.dumps(document, ensure_ascii=False, indent=None) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
