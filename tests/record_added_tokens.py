"""Record how transformers reads added tokens from each set of files that keeps them, for `test_added_tokens.py`.

    python tests/record_added_tokens.py

Run it in an environment with transformers 4, and without kbert. Writes recorded/added_tokens.json: for each case the files
beside the vocabulary of `tiny.py`, whose tokenizer it is, and the ids of the texts.
"""

import json
import sys
import tempfile
from pathlib import Path

import transformers
from tiny import VOCABULARY
from transformers import AddedToken, BertTokenizer, BertTokenizerFast

PLACE = Path(__file__).parent / "recorded" / "added_tokens.json"
TEXTS = [
    "a [E1] good film [/E1] [e1] and[E1]bad[/E1].",
    "Film42 is film42s not xfilm42, FILM42!",
    "covid-19 and Covid-19s",
    "the  <x>  very<x>dull  plot <X>",
    "很[E1]好film42电影 covid-19中文",
    "good unlikely Good goods [unused1]",
    "un-like unlikely. (unlikely) x_y x_y. X_Y x_y中",
]
LEGACY = ("vocab.txt", "added_tokens.json", "special_tokens_map.json")


def added(kind: type, folder: str) -> None:
    """Save a tokenizer with some tokens added."""
    tokenizer = kind(f"{folder}/vocab.txt", do_lower_case=True)
    tokenizer.add_special_tokens({"additional_special_tokens": ["[E1]", "[/E1]"]})
    tokenizer.add_tokens([AddedToken("Film42", single_word=True), "covid-19", "good"])
    tokenizer.add_tokens([AddedToken("<x>", normalized=False, lstrip=True, rstrip=True)])
    tokenizer.save_pretrained(folder)


def main() -> int:
    """Record all cases."""
    never = {"never_split": ["x_y", "[E1]", "un-like", "film"]}
    in_place = {"added_tokens_decoder": {"9": {"content": "dull", "single_word": True}, "40": {"content": "##x"}}}
    cases = {
        "fast": (BertTokenizerFast, BertTokenizerFast, None),
        "tokenizer.json alone": (BertTokenizerFast, BertTokenizerFast, ("tokenizer.json",)),
        "slow": (BertTokenizer, BertTokenizerFast, None),
        "legacy": (BertTokenizer, BertTokenizerFast, LEGACY),
        "of the vocabulary": (in_place, BertTokenizerFast, None),
        "never split, uncased": ({**never, "do_lower_case": True}, BertTokenizer, None),
        "never split, cased": ({**never, "do_lower_case": False}, BertTokenizer, None),
    }
    found = {}
    for name, (made, reader, kept) in cases.items():
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder)
            (place / "vocab.txt").write_text(
                "".join(token + "\n" for token in [*VOCABULARY, "x_y", "[E1]", "un-like"][: 44 if "never" in name else 41])
            )
            if isinstance(made, dict):
                (place / "tokenizer_config.json").write_text(json.dumps(made))
            else:
                added(made, folder)
            for file in place.iterdir():
                if kept is not None and file.name not in kept:
                    file.unlink()
            files = {
                file.name: json.loads(file.read_text()) if file.suffix == ".json" else file.read_text().split()
                for file in place.iterdir()
            }
            tokenizer = reader.from_pretrained(folder)
            ids = [tokenizer.encode(text, add_special_tokens=False) for text in TEXTS]
            found[name] = {"files": files, "reader": reader.__name__, "ids": ids}
    document = {"transformers": transformers.__version__, "texts": TEXTS, "cases": found}
    PLACE.write_text(json.dumps(document, ensure_ascii=False) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
