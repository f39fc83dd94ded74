"""Compare a served classifier with ONNX Runtime and sentence-transformers on the same weights: throughput and latency.

    python tools/bench/serve.py --export_dir=savedmodels/NAME --init=DIR --texts=T.tsv --witness_python=PYTHON

Texts are the first column of a tab-separated file. Batches of 32, as they come and sorted by length, then single texts.
kbert's SavedModel takes raw text; ONNX Runtime runs the same encoder in float32 with a classifier's head, after Hugging
Face's fast tokenizer. Each program has a process of its own; they run in turn, `--rounds` times. The table has
medians and the medians of the rounds' ratios. `products` is the time that TensorFlow's matrix products alone take for one
text of 22 tokens: what a single text's latency is bound by. The witness runs in an interpreter of its
own that has torch, transformers, sentence-transformers, onnx and onnxruntime.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

COMMON = """
import json, sys, time
given = json.loads(sys.argv[1])
texts = [line.split("\\t")[0].rstrip("\\n") for line in open(given["texts"], encoding="utf-8")][: given["rows"]]
by_length = sorted(texts, key=len)

def batches(run, texts):
    began = time.perf_counter()
    for start in range(0, len(texts), 32):
        run(texts[start : start + 32])
    return len(texts) / (time.perf_counter() - began)

def single(run):
    took = []
    for text in texts[: given["single"]]:
        began = time.perf_counter()
        run([text])
        took.append(1e3 * (time.perf_counter() - began))
    took.sort()
    return {"p50": took[len(took) // 2], "p99": took[int(len(took) * 0.99)]}

def measured(run):
    return {"unsorted": batches(run, texts), "sorted": batches(run, by_length), **single(run)}

def serve(jobs):
    for job in jobs.values():
        job()  # warm
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(jobs[line.strip()]()), flush=True)
"""
OURS = (
    COMMON
    + """
import tensorflow as tf
import tensorflow_text
model = tf.saved_model.load(given["export"])
call = model.signatures["serving_default"]
tokens, width, wide, layers = 22, given["hidden_size"], given["intermediate_size"], given["num_hidden_layers"]
shapes = [(width, width), (width, 2 * width), (width, width), (width, wide), (wide, width)]
weights = [[tf.Variable(tf.random.normal(shape)) for shape in shapes] for _ in range(layers)]
states = {n: tf.random.normal((tokens, n)) for n in (width, wide)}

@tf.function
def products(narrow, large):
    total = 0.0
    for layer in weights:
        for weight in layer:
            total += tf.matmul(large if weight.shape[0] == wide else narrow, weight)[0, 0]
    return total

def bound():
    took = []
    for _ in range(given["single"]):
        began = time.perf_counter()
        products(states[width], states[wide]).numpy()
        took.append(1e3 * (time.perf_counter() - began))
    return {"p50": sorted(took)[len(took) // 2]}

def answer(texts):
    return {name: value.numpy() for name, value in call(text=tf.constant(texts)).items()}

serve({"kbert": lambda: measured(answer), "products": bound})
"""
)
WITNESS = (
    COMMON
    + """
import os, tempfile
os.environ["HF_HUB_OFFLINE"] = "1"
import onnxruntime, torch
from sentence_transformers import SentenceTransformer
from transformers import AutoModelForSequenceClassification, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained(given["init"])
model = AutoModelForSequenceClassification.from_pretrained(given["init"], num_labels=2).eval()
names = ["input_ids", "attention_mask", "token_type_ids"]
ids = torch.ones(2, 8, dtype=torch.long)
path = os.path.join(tempfile.mkdtemp(), "model.onnx")
axes = {name: {0: "rows", 1: "tokens"} for name in names}
torch.onnx.export(model, (ids, ids, ids * 0), path, input_names=names, output_names=["logits"], dynamic_axes=axes, dynamo=False,
    opset_version=17)
session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
narrow = {"model_kwargs": {"dtype": torch.bfloat16}} if given["bf16"] else {}
vectors = SentenceTransformer(given["init"], device="cpu", **narrow)

def onnx(texts):
    encoded = tokenizer(texts, padding=True, truncation=True, max_length=given["max_length"], return_tensors="np")
    return session.run(None, {name: encoded[name] for name in names})

def encode(texts):
    return vectors.encode(texts, batch_size=32, show_progress_bar=False)

def whole():
    began = time.perf_counter()
    encode(texts)
    sorted_by_itself = len(texts) / (time.perf_counter() - began)
    return {"unsorted": sorted_by_itself, "sorted": sorted_by_itself, **single(encode)}

serve({"onnxruntime": lambda: measured(onnx), "sentence-transformers": whole})
"""
)


class Program:
    """A process that measures what it is asked for by a line."""

    def __init__(self, python: str, source: str, given: dict[str, Any]):
        self.process = subprocess.Popen(
            [python, "-c", source, json.dumps(given)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL if not given["verbose"] else None,
            text=True,
        )
        while (line := self._line()) != "ready":
            print(line, file=sys.stderr)

    def _line(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            sys.exit("a measured process ended; see its error with --verbose")
        return line.strip()

    def __call__(self, job: str) -> dict[str, float]:
        assert self.process.stdin is not None
        self.process.stdin.write(job + "\n")
        self.process.stdin.flush()
        found: dict[str, float] = json.loads(self._line())
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("export_dir", "init", "texts"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--rows", type=int, default=1800)
    parser.add_argument("--single", type=int, default=200, help="texts that are asked one at a time")
    parser.add_argument("--max_length", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--bf16", action="store_true", help="sentence-transformers in bfloat16")
    parser.add_argument("--witness_python", default=sys.executable)
    parser.add_argument("--verbose", action="store_true")
    args = parser.parse_args()
    version = max((p for p in Path(args.export_dir).iterdir() if p.name.isdigit()), key=lambda p: int(p.name))
    sizes = json.loads((Path(args.init) / "config.json").read_text())
    given = {**sizes, **vars(args), "export": str(version)}
    programs = {
        "kbert": (ours := Program(sys.executable, OURS, given)),
        "products": ours,
        "onnxruntime": (witness := Program(args.witness_python, WITNESS, given)),
        "sentence-transformers": witness,
    }
    rounds = [{job: program(job) for job, program in programs.items()} for _ in range(args.rounds)]
    print(f"{'':<24}{'unsorted/s':>12}{'sorted/s':>12}{'p50 ms':>10}{'p99 ms':>10}")
    for job in programs:
        row = [_median(rounds, job, key) for key in ("unsorted", "sorted", "p50", "p99")]
        cells = (f"{'':>{w}}" if v is None else f"{v:>{w}.1f}" for v, w in zip(row, (12, 12, 10, 10), strict=True))
        print(f"{job:<24}" + "".join(cells))
    for other in ("onnxruntime", "sentence-transformers"):
        ratios = {key: statistics.median(r["kbert"][key] / r[other][key] for r in rounds) for key in ("unsorted", "sorted")}
        ratios |= {key: statistics.median(r[other][key] / r["kbert"][key] for r in rounds) for key in ("p50", "p99")}
        print(f"kbert to {other} (above 1: kbert is ahead): " + ", ".join(f"{k} {v:.2f}" for k, v in ratios.items()))
    print(f"p50 to the products' time: {statistics.median(r['kbert']['p50'] / r['products']['p50'] for r in rounds):.2f}")


def _median(rounds: list[dict[str, dict[str, float]]], job: str, key: str) -> float | None:
    found = [r[job][key] for r in rounds if key in r[job]]
    return statistics.median(found) if found else None


if __name__ == "__main__":
    main()
