"""Measure the speed of making pre-training examples, kbert and Google's create_pretraining_data.py on the same text and core.

    python tools/bench/pretraining_data.py --input=text.txt --vocab=vocab.txt --lowercase

Both tokenize, make next-sentence pairs, mask and write TFRecords, in one process held to one core, `--passes` times over
the text; each is timed from inside, without the start of the interpreter and of TensorFlow: kbert's tokenizer, which is a
graph, is built and traced before (`start`). Google's code is that of bert-tensorflow 1.0.4 (in `kbert-keras[test]`). The peak
memory of each is printed too.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
LENGTH, MOST = 128, 20


def ours(args: argparse.Namespace, output: Path) -> Callable[[], int]:
    """Return a function that makes kbert's examples and returns their number."""
    from concurrent.futures import ThreadPoolExecutor

    from kbert.data.tokenizer import Tokenizer
    from kbert.data.vocabulary import read_vocabulary
    from kbert.pretraining import corpus, records, tokens
    from kbert.pretraining.cutting import Cut
    from kbert.pretraining.examples import TextExamples
    from kbert.pretraining.masking import Masking

    vocabulary = read_vocabulary(Path(args.vocab))
    encode = tokens.Encode(Tokenizer(vocabulary, lowercase=args.lowercase, strip_accents=args.lowercase), None)
    encode(next(corpus.blocks(args.input, "sentences")))

    def make() -> int:
        with ThreadPoolExecutor(1) as executor:
            found = tokens.tokenized(corpus.blocks(args.input, "sentences"), corpus.files(args.input), encode, executor, 1)
        examples = TextExamples(found, vocabulary, Cut("mlm+nsp", LENGTH), Masking(args.mask_unit, most=MOST), 0)
        return records.write_shard(output, examples, args.passes, range(args.passes * len(examples)), 0)

    return make


def googles(args: argparse.Namespace, output: Path) -> Callable[[], int]:
    """Return a function that makes Google's examples and returns their number."""
    import random

    from bert import create_pretraining_data as data
    from bert import tokenization

    data.FLAGS(
        [
            "x",
            f"--input_file={args.input}",
            f"--output_file={output}",
            f"--vocab_file={args.vocab}",
            f"--do_lower_case={args.lowercase}",
        ]
    )
    tokenizer = tokenization.FullTokenizer(vocab_file=args.vocab, do_lower_case=args.lowercase)
    data.tf.logging.set_verbosity(data.tf.logging.ERROR)

    def make() -> int:
        draw = random.Random(0)
        instances = data.create_training_instances([args.input], tokenizer, LENGTH, args.passes, 0.1, 0.15, MOST, draw)
        data.write_instance_to_example_files(instances, tokenizer, LENGTH, MOST, [str(output)])
        return len(instances)

    return make


def child(args: argparse.Namespace) -> None:
    """Time one side, and print the result as JSON."""
    sys.path.insert(0, str(ROOT))
    from kbert import runtime

    runtime.start()
    import tensorflow as tf

    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    tf.config.threading.set_inter_op_parallelism_threads(1)
    tf.config.threading.set_intra_op_parallelism_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        begin = time.process_time()
        make = {"kbert": ours, "google": googles}[args.side](args, Path(folder) / "x.tfrecord")
        start = time.process_time() - begin
        begin, cpu = time.monotonic(), time.process_time()
        count = make()
        seconds, cpu = time.monotonic() - begin, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(json.dumps({"examples": count, "seconds": seconds, "cpu": cpu, "start": start, "mb": peak}))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--input", required=True, help="a file, a sentence a line, blank lines between documents")
    parser.add_argument("--vocab", required=True)
    parser.add_argument("--lowercase", action="store_true")
    parser.add_argument("--passes", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=1, help="how often; the sides take turns")
    parser.add_argument("--mask_unit", default="piece", choices=("piece", "word", "span"), help="kbert's; Google's is piece")
    parser.add_argument("--side", choices=("kbert", "google"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side:
        child(args)
        return 0
    rates: dict[str, list[float]] = {"kbert": [], "google": []}
    for _ in range(args.rounds):
        for side, each in rates.items():
            done = subprocess.run([sys.executable, *sys.argv, f"--side={side}"], stdout=subprocess.PIPE, text=True, check=True)
            found = json.loads(done.stdout.splitlines()[-1])
            each.append(found["examples"] / found["cpu"])
            print(
                f"{side:<7}{found['examples']:>9,} examples, {found['cpu']:.2f} s of CPU ({found['seconds']:.2f} s in all, "
                f"start {found['start']:.2f} s), {each[-1]:,.0f} examples a second of CPU, {found['mb']:,} MB at most",
                flush=True,
            )
    ratios = [ours / theirs for ours, theirs in zip(*rates.values(), strict=True)]
    print(f"ratio {statistics.median(ratios):.1f} (median of {args.rounds}; {min(ratios):.1f} to {max(ratios):.1f})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
