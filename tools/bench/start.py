"""Measure what a command costs before TensorFlow is imported: the help, wrong flags and `import kbert`, in separate processes.

    python tools/bench/start.py [--rounds=5]

A table of seconds, median and best over the rounds, beside those of a bare Python and of `import tensorflow`.
"""

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = ("finetune", "pretrain", "evaluate", "predict", "export", "encode", "inspect")


def cases() -> dict[str, list[str]]:
    """Return the timed cases: a name, and Python's arguments."""
    found = {"python": ["-c", ""], "import kbert": ["-c", "import kbert"], "import tensorflow": ["-c", "import tensorflow"]}
    for command in COMMANDS:
        for argument in ("--help", "--no_such_flag"):
            found[f"kbert.{command} {argument}"] = ["-m", f"kbert.{command}", argument]
    return found


def seconds(arguments: list[str]) -> float:
    """Return the wall time of a process."""
    start = time.perf_counter()
    subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, check=False)
    return time.perf_counter() - start


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="how often each is run, in turn")
    rounds = parser.parse_args().rounds
    times: dict[str, list[float]] = {name: [] for name in cases()}
    for _ in range(rounds):
        for name, arguments in cases().items():
            times[name].append(seconds(arguments))
    print(f"| seconds, {rounds} rounds | median | best |\n|---|---|---|")
    for name, found in times.items():
        print(f"| `{name}` | {statistics.median(found):.2f} | {min(found):.2f} |")


if __name__ == "__main__":
    main()
