"""Compare sentence vectors of kbert with those of sentence-transformers' `encode`: similarity and speed, in one run.

    python tools/bench/encode.py --init=.demo/minilm --input=TEXTS [--texts=1000] [--rounds=3] [--witness_python=PYTHON]

`--input` holds a text a line (of a .tsv, the first column). The witness runs in an interpreter of its own that has torch
and sentence-transformers, and encodes as users have it do: `encode(texts)`, which sorts by length, batch 32. Both sides
are warm and take turns, round by round, in float32 and in bfloat16; the tables give the median over the rounds.
Pooling and normalisation are the checkpoint's own on both sides. Loading models and tracing graphs is not counted.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

PRECISIONS = ("float32", "bfloat16")
ALONE = 200  # texts that are also encoded alone

WITNESS = """
import json, sys, time, torch, numpy as np, sentence_transformers
init, texts, folder = sys.argv[1:]
lines = json.load(open(texts, encoding="utf-8"))
models = {}
for precision in ("float32", "bfloat16"):
    kind = {"dtype": getattr(torch, precision)}
    models[precision] = sentence_transformers.SentenceTransformer(init, device="cpu", model_kwargs=kind)
    models[precision].encode(lines[:64], batch_size=32)
print(json.dumps(f"sentence-transformers {sentence_transformers.__version__}, torch {torch.__version__}"), flush=True)
for line in sys.stdin:
    precision = line.strip()
    start = time.perf_counter()
    found = models[precision].encode(lines, batch_size=32, convert_to_numpy=True)
    seconds = time.perf_counter() - start
    np.save(f"{folder}/{precision}.npy", np.asarray(found, np.float32))
    print(json.dumps(seconds), flush=True)
"""


class Ours:
    """kbert's vectors of a file of texts, in each precision."""

    def __init__(self, init: str, path: Path, budget: int | None):
        from kbert import runtime

        runtime.start()
        from kbert import checkpoints
        from kbert.data.indexing import open_table
        from kbert.encode import vector_config
        from kbert.serving import predictor
        from kbert.source import SourceConfig
        from kbert.vectors import encoding
        from kbert.vectors import run as vector_run
        from kbert.vectors.flags import EncodeFlags, SentenceFlags, TokenFlags
        from kbert.vectors.sentences import SentenceVectors

        if budget:
            predictor.TOKEN_BUDGET = budget
        self.encoding = encoding
        checkpoint = checkpoints.open_checkpoint(init)
        self.table = open_table(str(path), SourceConfig(), ("text",), keyed_by=1)
        arrays, tokenizer = checkpoint.arrays(), vector_run.tokenizer_of(checkpoint)
        self.predictors = {}
        for precision in PRECISIONS:
            flags = EncodeFlags(init=init, precision=precision)  # type: ignore[arg-type]
            config, _ = vector_config(flags, SentenceFlags(), TokenFlags(), checkpoint)
            self.predictors[precision] = vector_run.build(SentenceVectors(config, tokenizer, survey=True), arrays, init)
            self(precision)

    def __call__(self, precision: str) -> np.ndarray:
        parts = self.encoding.sentences(self.predictors[precision], self.table, 0, Counter())
        return np.concatenate([vectors for (_, vectors), _ in parts])

    def alone(self, texts: int) -> np.ndarray:
        """Return the first texts' float32 vectors, each encoded alone."""
        import tensorflow as tf

        (column,) = self.table.read(range(texts)).values()
        return np.concatenate([self.predictors["float32"]({"text": tf.constant([text])})["vector"].numpy() for text in column])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--init", required=True, help="sentence-transformers directory")
    parser.add_argument("--input", required=True, type=Path, help="file of texts, one a line")
    parser.add_argument("--texts", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--budget", type=int, help="tokens that kbert's encoder takes at once, to try others")
    parser.add_argument("--witness_python", default=sys.executable, help="interpreter that has sentence-transformers")
    given = parser.parse_args()
    if not given.input.is_file():
        parser.error(f"--input={given.input}: no such file")
    lines = [line.split("\t")[0].strip() for line in given.input.read_text(encoding="utf-8").splitlines()]
    lines = [line for line in lines if line][: given.texts]
    with tempfile.TemporaryDirectory() as folder:
        texts, listed = Path(folder) / "texts.txt", Path(folder) / "texts.json"
        texts.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
        listed.write_text(json.dumps(lines), encoding="utf-8")
        command = [given.witness_python, "-c", WITNESS, given.init, str(listed), folder]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as witness:
            compare(witness, Ours(given.init, texts, given.budget), len(lines), given.rounds, Path(folder))


def compare(witness: "subprocess.Popen[str]", ours: Ours, texts: int, rounds: int, folder: Path) -> None:
    """Take turns, then print both tables."""
    assert witness.stdin is not None and witness.stdout is not None

    def told() -> Any:
        assert witness.stdout is not None
        line = witness.stdout.readline()
        if not line:
            sys.exit("the witness has ended; has its interpreter sentence-transformers?")
        return json.loads(line)

    print(told())
    seconds: dict[str, list[tuple[float, float]]] = {precision: [] for precision in PRECISIONS}
    found = {}
    for _ in range(rounds):
        for precision in PRECISIONS:
            start = time.perf_counter()
            found[precision] = ours(precision)
            own = time.perf_counter() - start
            witness.stdin.write(precision + "\n")
            witness.stdin.flush()
            seconds[precision].append((own, told()))
    witness.stdin.close()
    print(f"{texts} texts, {rounds} rounds; texts a second, median")
    print(f"{'':<10}{'kbert':>8}{'witness':>9}{'ratio':>7}{'  ratios of the rounds'}")
    for precision, pairs in seconds.items():
        mine, theirs = (texts / np.median(column) for column in zip(*pairs, strict=True))
        ratios = [t / m for m, t in pairs]
        print(f"{precision:<10}{mine:>8.0f}{theirs:>9.0f}{np.median(ratios):>7.2f}  {', '.join(f'{r:.2f}' for r in ratios)}")
    print("cosine to the witness's float32 vectors, smallest and mean; largest difference of a number")
    expected = np.load(folder / "float32.npy")
    theirs_low = np.load(folder / "bfloat16.npy")
    for name, vectors in (("float32", found["float32"]), ("bfloat16", found["bfloat16"]), ("witness bfloat16", theirs_low)):
        cosine = (vectors * expected).sum(1) / np.linalg.norm(vectors, axis=1) / np.linalg.norm(expected, axis=1)
        print(f"{name:<18}{cosine.min():.8f} {cosine.mean():.8f}  {np.abs(vectors - expected).max():.1e}")
    alone = ours.alone(min(texts, ALONE))
    difference = np.abs(alone - found["float32"][: len(alone)]).max()
    print(f"float32, the first {len(alone)} texts each alone: largest difference of a number {difference:.1e}")


if __name__ == "__main__":
    main()
