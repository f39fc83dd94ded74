"""Compare the text filter network with other filters: quality and speed of aspects at the same token budget.

    python tools/bench/aspect.py --init=.demo/minilm --data=DATA --out=DIR [--filters=tfn,head,...,full] [--seeds=0,1,2]
        [--max_length=64] [--finetune=--epochs=2 --finetune=--freeze_layers=3 ...]

`--data` holds train.csv, dev.csv and test.csv of wide rows (a column `text` and one for each of `--aspects`). Each filter is
trained by `kbert.finetune` and answers test.csv by `kbert.predict`; finished work is not repeated, so that the
same command continues with more seeds. "full" reads the head of the text at 512 tokens. The table has, over the seeds, mean and
standard deviation, and for the first filter named its differences to the others, with 95 % intervals of a paired bootstrap
over the texts (the seeds' figures are averaged within each sample). `sentences` is the share of the aspect-bearing sentences
that were read (`kbert.tasks.aspect.sentence_recall`). `seconds` is the time that test.csv takes end to end, text in, filter
included, by a loaded and warm model, the models in turn; the median over the rounds. "random" picks the same
places in all texts of as many sentences, and with each seed, so that its spread is that of the classifier alone.
"""

import argparse
import csv
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

LABELS = ("negative", "neutral", "positive", "not mentioned")
WRITTEN = {"-1": 0, "0": 1, "1": 2, "-2": 3}
SAMPLES = 2000
FIGURES = ("without neutral", "mentioned", "four classes", "accuracy")


def trained(name: str, seed: int, options: argparse.Namespace) -> Path:
    """Return the model directory of a filter and seed, trained; beside it the command and the model's answers."""
    folder = Path(options.out) / f"{name}-{seed}"
    answers, said = (folder.with_name(f"{folder.name}.{ending}") for ending in ("predictions.jsonl", "command.json"))
    length = 512 if name == "full" else options.max_length
    command = [
        *(sys.executable, "-m", "kbert.finetune", "--task=aspect", f"--init={options.init}"),
        *(f"--{split}_data={options.data}/{split}.csv" for split in ("train", "dev", "test")),
        *(f"--label_column={options.aspects}", f"--filter={'head' if name == 'full' else name}"),
        *(f"--max_length={length}", f"--seed={seed}", f"--model_dir={folder}", *options.finetune),
    ]
    if said.exists() and json.loads(said.read_text()) != command:
        sys.exit(f"{folder} was made by another command; name another --out")
    if not answers.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        said.write_text(json.dumps(command))
        began = time.perf_counter()
        subprocess.run(command, check=True)
        print(f"{name}, seed {seed}: trained in {time.perf_counter() - began:.0f} s", flush=True)
        predict = [sys.executable, "-m", "kbert.predict", f"--model_dir={folder}", f"--input={options.data}/test.csv"]
        subprocess.run([*predict, f"--output={answers}.part"], check=True)
        Path(f"{answers}.part").rename(answers)
    return folder


def read(path: Path, aspects: list[str]) -> tuple[list[str], np.ndarray]:
    """Return texts and label numbers [texts, aspects] of a csv file."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    return [row["text"] for row in rows], np.array([[WRITTEN[row[aspect]] for aspect in aspects] for row in rows])


def figures(counts: np.ndarray) -> np.ndarray:
    """`FIGURES` of counts [..., aspects, gold, predicted]: [..., figures], each the mean over the aspects."""
    right = np.diagonal(counts, axis1=-2, axis2=-1)
    total = counts.sum(-1) + counts.sum(-2)
    f1 = np.divide(2 * right, total, out=np.full(right.shape, np.nan), where=total > 0)  # [..., aspects, labels]
    said = counts[..., :3, :3].sum((-2, -1))
    either = counts[..., :3, :].sum((-2, -1)) + counts[..., :, :3].sum((-2, -1))
    mentioned = np.divide(2 * said, either, out=np.full(said.shape, np.nan), where=either > 0)
    accuracy = right.sum(-1) / counts.sum((-2, -1))
    each = (np.nanmean(f1[..., [0, 2, 3]], -1), mentioned, np.nanmean(f1, -1), accuracy)
    return np.stack([np.nanmean(value, -1) for value in each], -1)


def seconds(folders: dict[str, Path], texts: list[str], rounds: int) -> dict[str, float]:
    """Return how long each model takes for the texts, the models taking turns."""
    from kbert import runtime

    runtime.start()
    import tensorflow as tf

    from kbert import serving

    predictors = {name: serving.load(folder) for name, folder in folders.items()}
    raw = {"text": tf.constant(texts)}
    taken: dict[str, list[float]] = {name: [] for name in folders}
    for turn in range(rounds + 1):
        for name, predictor in predictors.items():
            began = time.perf_counter()
            predictor(raw)["label"].numpy()
            if turn:  # the first traces
                taken[name].append(time.perf_counter() - began)
    return {name: statistics.median(values) for name, values in taken.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--init", required=True, help="checkpoint to start from")
    parser.add_argument("--data", required=True, help="folder of train.csv, dev.csv and test.csv")
    parser.add_argument("--out", required=True, help="folder for models and answers")
    parser.add_argument("--aspects", default="food,service,price,ambience", help="columns of the aspects, comma-separated")
    parser.add_argument(
        "--filters", default="tfn,lexical,head,head_tail,tail,random,full", help="what is compared with the first"
    )
    parser.add_argument("--seeds", default="0", help="comma-separated")
    parser.add_argument("--max_length", type=int, default=64, help="token budget, [CLS], [SEP] and the aspect included")
    parser.add_argument("--rounds", type=int, default=3, help="of the timing; 0 for none")
    parser.add_argument("--finetune", action="append", default=[], help="further flag of kbert.finetune, several times")
    options = parser.parse_args()
    aspects, names = options.aspects.split(","), options.filters.split(",")
    seeds = [int(seed) for seed in options.seeds.split(",")]
    texts, gold = read(Path(options.data) / "test.csv", aspects)

    folders: dict[tuple[str, int], Path] = {}
    for seed in seeds:
        for name in names:
            folders[name, seed] = trained(name, seed, options)
    counts: dict[str, Any] = {}  # [seeds, texts, aspects, gold, predicted]
    for name in names:
        stacked = []
        for seed in seeds:
            with Path(f"{folders[name, seed]}.predictions.jsonl").open(encoding="utf-8") as file:
                answers = [json.loads(line)["aspects"] for line in file]
            found = np.array([[LABELS.index(answer[aspect]["label"]) for aspect in aspects] for answer in answers])
            stacked.append(np.eye(4)[gold][..., :, None] * np.eye(4)[found][..., None, :])
        counts[name] = np.stack(stacked)
    draws = np.random.default_rng(0).multinomial(len(texts), np.full(len(texts), 1 / len(texts)), SAMPLES).astype(float)

    def sampled(name: str) -> np.ndarray:
        """Compute the figures of bootstrap samples, [samples, figures], mean over the seeds."""
        found = [figures((draws @ part.reshape(len(texts), -1)).reshape(SAMPLES, *part.shape[1:])) for part in counts[name]]
        return np.mean(found, 0)

    taken = seconds({name: folders[name, seeds[0]] for name in names}, texts, options.rounds) if options.rounds else {}
    print(f"\n{len(texts)} texts, seeds {options.seeds}, {options.max_length} tokens ({', '.join(FIGURES)}; in per cent)")
    base = sampled(names[0])
    for name in names:
        each = 100 * np.array([figures(part.sum(0)) for part in counts[name]])  # [seeds, figures]
        shown = "  ".join(f"{m:5.1f} ±{s:3.1f}" for m, s in zip(each.mean(0), each.std(0, ddof=len(seeds) > 1), strict=True))
        line = f"{name:<10} {shown}"
        metrics = [json.loads((folders[name, seed] / "metrics.json").read_text())["test"] for seed in seeds]
        if "sentence_recall" in metrics[0]:
            line += f"  sentences {100 * statistics.mean(each['sentence_recall'] for each in metrics):5.1f}"
        if name in taken:
            line += f"  seconds {taken[name]:6.2f}"
        print(line)
        if name != names[0]:
            change = 100 * (base - sampled(name))
            low, high = np.quantile(change, [0.025, 0.975], axis=0)
            mean = 100 * np.mean([figures(part.sum(0)) for part in counts[names[0]]], 0) - each.mean(0)
            spans = "  ".join(f"{m:+5.1f} [{a:+.1f}, {b:+.1f}]" for m, a, b in zip(mean, low, high, strict=True))
            print(f"{'':<10} {names[0]} - {name}: {spans}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
