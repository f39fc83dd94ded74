"""Measure the peak memory of the pre-pass and 2,000 training steps, on a small and on a large text file.

    python tools/bench/memory.py --init=.demo/minilm [--sizes=10,1000] [--steps=2000]

Each size (in MB) runs in a process of its own; the table's last column is against the first size.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))


def write(path: Path, megabytes: int) -> None:
    """Write a tsv file of about this size: short texts of a few words, two labels."""
    words = "the a film plot is and very good bad of in story actors scene but not one who makes".split()
    size, row = 0, 0
    with open(path, "w", encoding="utf-8") as file:
        file.write("text\tlabel\n")
        while size < megabytes * 1_000_000:
            text = " ".join(words[(row * 7 + i * i) % len(words)] for i in range(12 + row % 9))
            size += file.write(f"{text} {row}\t{'pos' if row % 2 else 'neg'}\n")
            row += 1


def run(path: str, init: str, steps: int) -> None:
    """Train on one file and print: rows, seconds of the pre-pass, seconds of the steps, peak MB."""
    from kbert import runtime

    runtime.start()
    from kbert import checkpoints
    from kbert.config import ModelConfig, TrainConfig
    from kbert.data.indexing import open_table
    from kbert.serving import build_model
    from kbert.source import SourceConfig
    from kbert.tasks.classify.task import Classify
    from kbert.train import batches as pipeline
    from kbert.train import optimizers
    from kbert.train.objective import Objective
    from kbert.train.step import TrainStep

    start = time.monotonic()
    table = open_table(path, SourceConfig(), ("text", "label"), keyed_by=1)
    read = time.monotonic() - start
    checkpoint = checkpoints.open_checkpoint(init)
    config = ModelConfig(
        task="classify",
        fields=("text",),
        labels=("neg", "pos"),
        options={},
        encoder=checkpoint.encoder,
        text=checkpoint.text,
        max_length=32,
    )
    task, encoder, built = build_model(Classify, config, checkpoint.vocabulary, "float32")
    encoder.load(checkpoint.arrays(), init)
    encoder.freeze_lower(checkpoint.encoder.num_layers)
    train = TrainConfig(init=init, train_data=path)
    model = built.model
    step = TrainStep(model, optimizers.optimizer(model, train, steps), Objective(built.loss, built.metrics))
    examples = pipeline.training_examples(task, table, 0, model)
    batches = iter(pipeline.TableBatches(task, examples, batch_size=32, seed=0).dataset(0))
    sums = step.zeros()
    start = time.monotonic()
    for _ in range(steps):
        sums, _ = step(batches, sums)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    print(f"{len(table)} {read:.1f} {time.monotonic() - start:.1f} {peak:.0f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--init", required=True)
    parser.add_argument("--sizes", default="10,1000")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        return run(arguments.one, arguments.init, arguments.steps)
    print(f"{'file MB':>8} {'rows':>12} {'pre-pass s':>11} {'steps s':>9} {'peak MB':>9} {'more MB':>9}")
    first = None
    for size in map(int, arguments.sizes.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "text.tsv"
            write(path, size)
            command = [sys.executable, __file__, f"--init={arguments.init}", f"--steps={arguments.steps}", f"--one={path}"]
            rows, read, stepped, peak = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.split()
        first = float(peak) if first is None else first
        print(f"{size:>8} {int(rows):>12,} {read:>11} {stepped:>9} {peak:>9} {float(peak) - first:>9.0f}", flush=True)


if __name__ == "__main__":
    main()
