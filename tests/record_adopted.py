"""Record what transformers answers from fine-tuned models that `kbert.adopt` reads.

    python tests/record_adopted.py [DIR ...]

Run it in an environment with torch, transformers 4 and sentence-transformers, and without kbert. Writes recorded/adopted.json:
for each model of `tiny.ADOPTED` the answers of transformers' pipelines, with `aggregation_strategy="first"`; of BIOES, which the pipeline
does not read, the tag of each word; of question answering, those of run_qa.py's post-processing. With directories, e.g. what
`kbert.convert` wrote, prints theirs.
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from safetensors.numpy import save_file
from tiny import (
    ADOPTED,
    CONFIG,
    CONTEXTS,
    MASKED,
    MODULES,
    PAIRS,
    TEXTS,
    VOCABULARY,
    adopted_config,
    adopted_tensors,
    dense_tensors,
    full_tensors,
)

LENGTH, STRIDE, LONGEST, BEST = 24, 4, 5, 20


def made(folder: Path, name: str) -> str:
    """Write a model of `ADOPTED`; return its folder."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(adopted_config(name)))
    (folder / "vocab.txt").write_text("".join(token + "\n" for token in VOCABULARY), encoding="utf-8")
    transformers.BertTokenizerFast(str(folder / "vocab.txt"), do_lower_case=True).save_pretrained(folder)
    save_file(adopted_tensors(name), folder / "model.safetensors", metadata={"format": "pt"})
    return str(folder)


def vectors(folder: Path) -> list[list[float]]:
    """Write the sentence-transformers directory of `MODULES`; return its vectors of `TEXTS`."""
    from sentence_transformers import SentenceTransformer

    made(folder, "pairs")
    (folder / "config.json").write_text(json.dumps({**CONFIG, "num_hidden_layers": 3, "architectures": ["BertModel"]}))
    save_file(full_tensors(), folder / "model.safetensors", metadata={"format": "pt"})
    for name, content in MODULES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(content))
    save_file(dense_tensors(), folder / "2_Dense" / "model.safetensors", metadata={"format": "pt"})
    found = SentenceTransformer(str(folder), device="cpu").encode(list(TEXTS))
    return [[round(float(number), 7) for number in row] for row in found]


def answers(folder: str) -> list[Any]:
    """Return the answers of a directory's model, for each text."""
    config = transformers.AutoConfig.from_pretrained(folder)
    (kind,) = config.architectures
    if kind == "BertForTokenClassification":
        how = "none" if any(label.startswith("E-") for label in config.label2id) else "first"
        pipeline = transformers.pipeline(
            "token-classification",
            model=folder,
            aggregation_strategy=how,
            device="cpu",
            ignore_labels=["O"] if how == "first" else [],
        )
        found = [pipeline(text) if text else [] for text in TEXTS]
        keys = ("entity_group", "start", "end") if how == "first" else ("entity", "word", "start", "end")
        return [[[entity[key] for key in keys] for entity in row] for row in found]
    if kind == "BertForQuestionAnswering":
        return [best_answer(folder, question, context) for question in ("good film", "x") for context in CONTEXTS]
    if kind == "BertForMaskedLM":
        pipeline = transformers.pipeline("fill-mask", model=folder, device="cpu")
        rows = [pipeline(text) for text in MASKED]
        rows = [row if isinstance(row[0], list) else [row] for row in rows]
        return [[[[each["token_str"], each["score"]] for each in mask] for mask in row] for row in rows]
    pipeline = transformers.pipeline("text-classification", model=folder, device="cpu")
    rows = pipeline([{"text": a, "text_pair": b} for a, b in PAIRS], top_k=None)
    return [{each["label"]: each["score"] for each in row} for row in rows]


def best_answer(folder: str, question: str, context: str) -> list[Any]:
    """Return text, start and end of the best answer, as `postprocess_qa_predictions` of transformers' utils_qa.py chooses it."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForQuestionAnswering.from_pretrained(folder).eval()
    windows = tokenizer(
        question,
        context,
        truncation="only_second",
        max_length=LENGTH,
        stride=STRIDE,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
        padding=True,
        return_tensors="pt",
    )
    inputs = {name: windows[name] for name in ("input_ids", "token_type_ids", "attention_mask")}
    with torch.no_grad():
        outputs = model(**inputs)
    best: tuple[float, int, int] = (-np.inf, 0, 0)
    for window, offsets in enumerate(windows["offset_mapping"].tolist()):
        places = [o if s == 1 else None for o, s in zip(offsets, windows.sequence_ids(window), strict=True)]
        first, last = (logits[window].numpy() for logits in (outputs.start_logits, outputs.end_logits))
        for start in np.argsort(first)[-1 : -BEST - 1 : -1].tolist():
            for end in np.argsort(last)[-1 : -BEST - 1 : -1].tolist():
                if places[start] is None or places[end] is None or not 0 < end - start + 1 <= LONGEST:
                    continue
                best = max(best, (float(first[start] + last[end]), places[start][0], places[end][1]))
    return [context[best[1] : best[2]], *best[1:]]


def main(folders: list[str]) -> int:
    """Record or print."""
    if folders:
        print(json.dumps({folder: answers(folder) for folder in folders}, ensure_ascii=False))
        return 0
    found = {}
    for name in ADOPTED:
        with tempfile.TemporaryDirectory() as folder:
            found[name] = answers(made(Path(folder) / "model", name))
    with tempfile.TemporaryDirectory() as folder:
        found["vectors"] = vectors(Path(folder) / "model")
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    target = Path(__file__).parent / "recorded" / "adopted.json"
    plain = json.dumps({"versions": versions, "answers": found}, indent=1, ensure_ascii=False, default=float)
    target.write_text(plain + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
