"""Measure the speed of text into ids: kbert in tf.data against Hugging Face tokenizers' encode_batch, in turn.

    python tools/bench/text.py --vocab=vocab.txt --lowercase --input=texts.txt [--rounds=5]

Both run over the same texts on the same cores. Each side first finds its best batch size; in each
round they then take turns at it. Medians over the rounds; the ratio is the median of the rounds'.
kbert's times include the start of its pipeline. Needs the `tokenizers` package (kbert-keras[test]).
"""

import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from kbert import flags, runtime
from kbert.settings import flag
from kbert.source import SOURCE_HELP, SourceConfig

BATCHES = (64, 256, 1024, 4096)


@dataclass(frozen=True, kw_only=True)
class BenchFlags:
    vocab: str = flag(help="A vocab.txt.")
    lowercase: bool = flag(False, help="The vocabulary is of an uncased model.")
    input: str = flag(help=f"Texts: {SOURCE_HELP}.")
    texts: int = flag(100_000, help="Texts of a run; fewer are repeated.", low=1)
    rounds: int = flag(5, help="Rounds; in each both sides run once.", low=1)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    return flags.main("python tools/bench/text.py", str(__doc__), argv, lambda _: (BenchFlags, SourceConfig), run)


def run(options: BenchFlags, source: SourceConfig) -> int:
    """Measure and print the table; return the exit code."""
    runtime.start()
    import tensorflow as tf
    from tokenizers import BertWordPieceTokenizer

    from kbert.data.indexing import open_table
    from kbert.data.tokenizer import PLAIN, Tokenizer
    from kbert.data.vocabulary import read_vocabulary

    table = open_table(options.input, source, source.text_columns[:1], keyed_by=1)
    read = table.read(range(min(len(table), options.texts)))[source.text_columns[0]].tolist()
    texts = (read * (options.texts // len(read) + 1))[: options.texts]
    strings = [text.decode() for text in texts]
    plain = float(tf.reduce_mean(tf.cast(tf.strings.regex_full_match(texts, PLAIN), tf.float32)))
    vocabulary = read_vocabulary(Path(options.vocab))
    tokenizer = Tokenizer(vocabulary, lowercase=options.lowercase, strip_accents=options.lowercase)
    other = BertWordPieceTokenizer(options.vocab, lowercase=options.lowercase)
    rows = tf.data.Dataset.from_tensor_slices(texts)

    def pipeline(batch: int) -> tf.data.Dataset:
        return rows.batch(batch).map(lambda t: tf.size(tokenizer.tokenize(t).values), num_parallel_calls=tf.data.AUTOTUNE)

    pipelines = {batch: pipeline(batch) for batch in BATCHES}  # traced once, as a training run does

    def kbert(batch: int) -> int:
        return sum(int(n) for n in pipelines[batch])

    def hugging_face(batch: int) -> int:
        ids = 0
        for start in range(0, len(strings), batch):
            ids += sum(len(e.ids) for e in other.encode_batch(strings[start : start + batch], add_special_tokens=False))
        return ids

    def speed(side: Callable[[int], int], batch: int) -> float:
        start = time.perf_counter()
        return side(batch) / (time.perf_counter() - start)

    sides = (kbert, hugging_face)
    best = [max(BATCHES, key=lambda batch: speed(side, batch)) for side in sides]
    rounds = [[speed(side, batch) for side, batch in zip(sides, best, strict=True)] for _ in range(options.rounds)]
    print(f"{options.input}: {len(texts):,} texts, {plain:.0%} of them plain")
    print(f"{'':<12}{'batch':>7}{'tokens/s':>14}{'lowest':>14}{'highest':>14}")
    for name, batch, found in zip(("kbert", "tokenizers"), best, zip(*rounds, strict=True), strict=True):
        print(f"{name:<12}{batch:>7}{statistics.median(found):>14,.0f}{min(found):>14,.0f}{max(found):>14,.0f}")
    ratios = [ours / theirs for ours, theirs in rounds]
    print(f"ratio {statistics.median(ratios):.1f} ({min(ratios):.1f} to {max(ratios):.1f})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
