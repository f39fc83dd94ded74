"""Compare fine-tuning in kbert and in Hugging Face's Trainer: whole commands in turn, on the same rows and checkpoint.

    python tools/bench/finetune.py --init=DIR --train=T.tsv --dev=D.tsv --test=X.tsv --freeze_layers=4 --witness_python=PYTHON

Rows are text, tab, label, without a header. Both train for `--epochs` with batches of 32 grouped by length, dropout, AdamW and
linear decay. The training time is that from the first batch to the last, for kbert with the pass through the frozen layers and
without the measuring of dev, which the witness does not do; the command's is that from start to end. The table has the
median of the rounds and the median of their ratios; above 1, kbert is the faster. The witness runs in an interpreter of
its own that has torch, transformers and accelerate.
"""

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

WITNESS = """
import json, os, resource, sys, tempfile, time
os.environ["HF_HUB_OFFLINE"] = "1"
import torch
from transformers import (AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding, Trainer,
    TrainingArguments, set_seed)
given = json.loads(sys.argv[1])
set_seed(given["seed"])
tokenizer = AutoTokenizer.from_pretrained(given["init"])

def rows(path):
    lines = [line.rstrip("\\n").split("\\t") for line in open(path, encoding="utf-8")]
    encoded = tokenizer([text for text, _ in lines], truncation=True, max_length=given["max_length"])
    return [{"input_ids": i, "attention_mask": m, "labels": int(y), "length": len(i)}
        for i, m, (_, y) in zip(encoded["input_ids"], encoded["attention_mask"], lines)]

train, test = rows(given["train"]), rows(given["test"])
model = AutoModelForSequenceClassification.from_pretrained(given["init"], num_labels=len({row["labels"] for row in train}))
if given["freeze_layers"]:
    for part in (model.bert.embeddings, *model.bert.encoder.layer[:given["freeze_layers"]]):
        part.requires_grad_(False)
common = dict(output_dir=tempfile.mkdtemp(), num_train_epochs=given["epochs"], per_device_train_batch_size=32,
    per_device_eval_batch_size=64, learning_rate=5e-5, warmup_ratio=0.1, weight_decay=0.01, bf16=given["bf16"], use_cpu=True,
    save_strategy="no", eval_strategy="no", report_to=[], logging_strategy="no", seed=given["seed"], disable_tqdm=True)
trainer = Trainer(model, TrainingArguments(group_by_length=True, **common), train_dataset=train,
    data_collator=DataCollatorWithPadding(tokenizer), processing_class=tokenizer)
began = time.time()
trainer.train()
seconds = time.time() - began
found = trainer.predict(test)
accuracy = float((found.predictions.argmax(-1) == found.label_ids).mean())
print(json.dumps({"training": seconds, "accuracy": accuracy}))
"""
EPOCH = re.compile(r"^\d+/\d+ - (\d+)s - ", re.M)
FROZEN = re.compile(r"states of \d+ frozen layers: .* in ([0-9.]+) s", re.M)
CHOSEN = re.compile(r"--precision=auto: (.*)", re.M)


def timed(command: list[str]) -> tuple[str, float]:
    """Run a command; return its output and its seconds."""
    began = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command[:4])} ... ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return done.stdout + done.stderr, time.monotonic() - began


def ours(args: argparse.Namespace, seed: int) -> dict[str, float]:
    """Fine-tune with kbert."""
    with tempfile.TemporaryDirectory() as folder:
        flags = {
            "init": args.init,
            "train_data": args.train,
            "dev_data": args.dev,
            "test_data": args.test,
            "columns": "text,label",
            "freeze_layers": args.freeze_layers,
            "epochs": args.epochs,
            "max_length": args.max_length,
            "seed": seed,
            "model_dir": folder,
        }
        command = [sys.executable, "-m", "kbert.finetune", *(f"--{name}={value}" for name, value in flags.items()), *args.more]
        said, whole = timed(command)
        metrics = json.loads((Path(folder) / "metrics.json").read_text())
    for line in CHOSEN.findall(said):
        print(f"  {line}", flush=True)
    training = sum(map(float, EPOCH.findall(said) + FROZEN.findall(said)))
    return {"training": training, "command": whole, "accuracy": metrics["test"]["accuracy"]}


def witness(args: argparse.Namespace, seed: int) -> dict[str, float]:
    """Fine-tune with the Trainer."""
    names = ("init", "train", "test", "freeze_layers", "epochs", "max_length", "bf16")
    given = {**{name: getattr(args, name) for name in names}, "seed": seed}
    said, whole = timed([args.witness_python, "-c", WITNESS, json.dumps(given)])
    found = next(line for line in said.splitlines() if line.startswith('{"training"'))
    return {**json.loads(found), "command": whole}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("init", "train", "dev", "test"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--freeze_layers", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--max_length", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3, help="each with a seed of its own")
    parser.add_argument("--bf16", action="store_true", help="the witness in bfloat16")
    parser.add_argument("--witness_python", default=sys.executable)
    parser.add_argument("more", nargs="*", help="more flags of kbert.finetune, after --")
    args = parser.parse_args()
    rounds = []
    print(f"{'':<10}{'training s':>22}{'command s':>22}{'accuracy':>18}\n{'':<10}" + f"{'kbert':>11}{'Trainer':>11}" * 2)
    for seed in range(args.rounds):
        rounds.append((ours(args, seed), witness(args, seed)))
        _line(f"seed {seed}", *rounds[-1])
    one, other = ({name: statistics.median(r[side][name] for r in rounds) for name in rounds[0][0]} for side in (0, 1))
    _line("median", one, other)
    ratios = {name: statistics.median(b[name] / a[name] for a, b in rounds) for name in ("training", "command")}
    print(f"ratios: training {ratios['training']:.2f}, command {ratios['command']:.2f}")


def _line(name: str, own: dict[str, float], other: dict[str, float]) -> None:
    times = "".join(f"{each[key]:>11.1f}" for key in ("training", "command") for each in (own, other))
    print(f"{name:<10}{times}{own['accuracy']:>9.4f}{other['accuracy']:>9.4f}", flush=True)


if __name__ == "__main__":
    main()
