"""Record what transformers' own pipeline answers from heads for several labels, a number, and one label.

    python tests/record_classify_heads.py [DIR ...]

Run it in an environment with torch and transformers 4, and without kbert. Writes recorded/classify_heads.json: for each
problem type the scores of `TEXTS`. With directories, e.g. what `kbert.convert` wrote, it prints theirs instead.
"""

import json
import sys
import tempfile
from pathlib import Path

import torch
import transformers
from tiny import CLASSIFIERS, CONFIG, TEXTS, VOCABULARY, full_tensors


def answers(folder: str) -> list[dict[str, float]]:
    """Return the pipeline's score of each label, for each text."""
    pipeline = transformers.pipeline("text-classification", model=folder, device="cpu")
    return [{each["label"]: each["score"] for each in row} for row in pipeline(list(TEXTS), top_k=None)]


def made(folder: Path, problem_type: str, labels: tuple[str, ...]) -> str:
    """Write a model with a head, as transformers does, and return its folder."""
    names = dict(enumerate(labels))
    config = transformers.BertConfig(
        **{**CONFIG, "num_hidden_layers": 3},
        id2label=names,
        label2id={name: number for number, name in names.items()},
        problem_type=problem_type,
    )
    model = transformers.BertForSequenceClassification(config)
    model.load_state_dict({name: torch.from_numpy(tensor) for name, tensor in full_tensors(labels=len(labels)).items()})
    model.save_pretrained(folder)
    (folder / "vocab.txt").write_text("".join(token + "\n" for token in VOCABULARY), encoding="utf-8")
    transformers.BertTokenizerFast(str(folder / "vocab.txt"), do_lower_case=True).save_pretrained(folder)
    return str(folder)


def main(folders: list[str]) -> int:
    """Record or print."""
    if folders:
        print(json.dumps({folder: answers(folder) for folder in folders}))
        return 0
    found = {}
    for problem_type, labels in CLASSIFIERS.items():
        with tempfile.TemporaryDirectory() as folder:
            found[problem_type] = answers(made(Path(folder), problem_type, labels))
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    target = Path(__file__).parent / "recorded" / "classify_heads.json"
    target.write_text(json.dumps({"versions": versions, "scores": found}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
