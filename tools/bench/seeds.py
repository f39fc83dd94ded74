"""Compare ways to fine-tune by figures over several seeds: means with 95 % intervals, and differences to the first way.

    python tools/bench/seeds.py --out=DIR --seeds=0,1,2 --figure=test.macro.f1 \
        --way="plain" --way="balanced --class_weights=balanced" -- --init=.demo/minilm --train_data=data/{seed}/train.tsv ...

A way is a name and flags of its own; the flags after `--` are those of all. `{seed}` in a flag becomes the seed, for data
that differ by seed. A figure is a path into metrics.json, with dots. Finished runs in `--out` are not repeated,
so that the same command continues with more seeds. Intervals are Student's t over the seeds; those of differences are
of the differences by seed.

Rows of SST-2 with one positive in 51, another sample for each seed (train 2,040, dev 612, test 2,040):

    for seed in 0 1 2 3 4; do mkdir -p data/rare/$seed
        cat data/sst2/{train,dev,test}.tsv | sort -u | shuf --random-source=<(yes $seed) |
            awk -F'\\t' -v to=data/rare/$seed '{ n = $2 ? ++rare * 50 : ++common
                print > (to "/" (n <= 2000 ? "train" : n <= 2600 ? "dev" : n <= 4600 ? "test" : "rest") ".tsv") }'
    done
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np


def metrics(way: str, seed: int, options: argparse.Namespace) -> Any:
    """Return metrics.json of a way and seed, trained if it is missing; beside it are its command and its output."""
    name, *own = way.split()
    folder = Path(options.out) / f"{name}-{seed}"
    flags = [flag.replace("{seed}", str(seed)) for flag in (*options.flags, *own)]
    command = [sys.executable, "-m", "kbert.finetune", *flags, f"--seed={seed}", f"--model_dir={folder}"]
    said, output = (folder.with_name(f"{folder.name}.{ending}") for ending in ("command.json", "log"))
    if said.exists() and json.loads(said.read_text())[1:] != command[1:]:
        sys.exit(f"{folder} was made by another command; name another --out")
    if not (folder / "metrics.json").exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        said.write_text(json.dumps(command))
        began = time.perf_counter()
        with output.open("w") as log:
            if subprocess.run(command, stdout=log, stderr=subprocess.STDOUT).returncode:
                sys.exit(f"{name}, seed {seed}: failed, see {output}")
        print(f"{name}, seed {seed}: {time.perf_counter() - began:.0f} s", flush=True)
    return json.loads((folder / "metrics.json").read_text())


def figure(values: Any, path: str) -> float:
    """Return the number at a path of metrics."""
    for key in path.split("."):
        if key not in values:
            sys.exit(f"--figure={path}: {key} is not among {', '.join(values)}")
        values = values[key]
    return float(values)


def interval(values: np.ndarray) -> str:
    """Describe values [seeds]: their mean and its 95 % interval."""
    from scipy import stats

    if len(values) < 2:
        return f"{values.mean():.4f}"
    half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5
    return f"{values.mean():+.4f} [{values.mean() - half:+.4f}, {values.mean() + half:+.4f}]"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, help="folder for the models")
    parser.add_argument("--seeds", default="0,1,2,3,4", help="comma-separated")
    parser.add_argument("--way", action="append", required=True, help="name, then flags; several times")
    parser.add_argument("--figure", action="append", required=True, help="path into metrics.json; several times")
    parser.add_argument("flags", nargs="*", help="flags of kbert.finetune, after --")
    options = parser.parse_args()
    seeds = [int(seed) for seed in options.seeds.split(",")]
    found: dict[str, list[dict[str, Any]]] = {way: [] for way in options.way}
    for seed in seeds:
        for way, each in found.items():
            each.append(metrics(way, seed, options))
    print(f"seeds {options.seeds}: mean and 95 % interval; difference to {options.way[0].split()[0]}")
    for path in options.figure:
        print(path)
        values = {way: np.array([figure(m, path) for m in each]) for way, each in found.items()}
        first = values[options.way[0]]
        for way, sample in values.items():
            beside = "" if sample is first else f"   {interval(sample - first)}"
            print(f"  {way.split()[0]:<16} {interval(sample)}{beside}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
