"""Speed of text into ids: kbert in tf.data against Hugging Face tokenizers' encode_batch, in turn.

    python tools/bench/text.py --vocab=vocab.txt --lowercase --input=texts.txt [--rounds=5]

Each side runs over the same texts on the same cores, at each of several batch sizes; the table shows
each side's best batch size. Medians over the rounds; the ratio is the median of the rounds' ratios.
Needs the `tokenizers` package (kbert[test]).
"""

import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from kbert import flags, runtime
from kbert.config import SOURCE_HELP, SourceConfig, flag

BATCHES = (64, 256, 1024, 4096)


@dataclass(frozen=True, kw_only=True)
class BenchFlags:
    vocab: str = flag(help="A vocab.txt.")
    lowercase: bool = flag(False, help="The vocabulary is of an uncased model.")
    input: str = flag(help=f"Texts: {SOURCE_HELP}.")
    texts: int = flag(20_000, help="Texts to read at most; fewer are repeated.", low=1)
    rounds: int = flag(5, help="Rounds; in each both sides run at every batch size.", low=1)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns its exit code."""
    return flags.main("python tools/bench/text.py", str(__doc__), argv, lambda _: (BenchFlags, SourceConfig), run)


def run(options: BenchFlags, source: SourceConfig) -> int:
    """Measure and print the table; returns the exit code."""
    runtime.start()
    import tensorflow as tf
    from tokenizers import BertWordPieceTokenizer

    from kbert.sources import open_table
    from kbert.text import PLAIN, Tokenizer, read_vocabulary

    table = open_table(options.input, source, source.text_columns[:1], keyed_by=1)
    read = table.read(range(min(len(table), options.texts)))[source.text_columns[0]].tolist()
    texts = (read * (options.texts // len(read) + 1))[: options.texts]
    strings = [text.decode() for text in texts]
    plain = float(tf.reduce_mean(tf.cast(tf.strings.regex_full_match(texts, PLAIN), tf.float32)))

    tokenizer = Tokenizer(read_vocabulary(Path(options.vocab)), lowercase=options.lowercase, strip_accents=options.lowercase)
    other = BertWordPieceTokenizer(options.vocab, lowercase=options.lowercase)

    def kbert(batch: int) -> int:
        rows = tf.data.Dataset.from_tensor_slices(texts).batch(batch)
        found = rows.map(lambda t: tf.size(tokenizer.tokenize(t).values), num_parallel_calls=tf.data.AUTOTUNE)
        return int(sum(int(n) for n in found))

    def hugging_face(batch: int) -> int:
        ids = 0
        for start in range(0, len(strings), batch):
            ids += sum(len(e.ids) for e in other.encode_batch(strings[start : start + batch], add_special_tokens=False))
        return ids

    tokens = kbert(BATCHES[-1])  # and both sides are warm
    difference = hugging_face(BATCHES[-1]) - tokens
    speeds: dict[str, dict[int, list[float]]] = {"kbert": {}, "tokenizers": {}}
    sides: dict[str, Callable[[int], int]] = {"kbert": kbert, "tokenizers": hugging_face}
    for _ in range(options.rounds):
        for batch in BATCHES:
            for name, side in sides.items():
                start = time.perf_counter()
                side(batch)
                speeds[name].setdefault(batch, []).append(tokens / (time.perf_counter() - start))

    best = {name: max(found, key=lambda b: statistics.median(found[b])) for name, found in speeds.items()}
    ours, theirs = (speeds[name][best[name]] for name in sides)
    print(f"{options.input}: {len(texts):,} texts ({plain:.0%} plain), {tokens:,} tokens; tokenizers has {difference:+,}")
    print(f"{'':<12}{'batch':>7}{'tokens/s':>14}{'lowest':>14}{'highest':>14}")
    for name, found in (("kbert", ours), ("tokenizers", theirs)):
        print(f"{name:<12}{best[name]:>7}{statistics.median(found):>14,.0f}{min(found):>14,.0f}{max(found):>14,.0f}")
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    print(f"ratio {statistics.median(ratios):.1f} ({min(ratios):.1f} to {max(ratios):.1f})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
