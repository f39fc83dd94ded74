"""Speed of turning questions into training windows: kbert against Hugging Face's run_qa feature step.

    python tools/bench/featurise.py --vocab=vocab.txt --lowercase --input=train.json [--witness_python=PATH] [--rounds=5]

kbert: windows, offsets and targets by the graph that training runs, 1,024 rows at a time. Hugging Face:
the fast tokenizer with overflow and offsets, then the loop over windows that finds start and end, as
run_qa.py's `prepare_train_features` does in batches of 1,000; in a second interpreter that has
transformers and needs no kbert. Both read the same rows on the same cores, in turn. Medians over the
rounds; the ratio is the median of the rounds'.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve()
ROWS = 1024  # at once, as `kbert.pipeline.READ_ROWS`


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns its exit code."""
    from kbert import flags
    from kbert.config import SOURCE_HELP, SourceConfig, flag
    from kbert.options import AnswerOptions

    @dataclass(frozen=True, kw_only=True)
    class BenchFlags:
        vocab: str = flag(help="A vocab.txt.")
        lowercase: bool = flag(False, help="The vocabulary is of an uncased model.")
        input: str = flag(help=f"Questions: {SOURCE_HELP}.")
        max_length: int = flag(384, help="Longest window, in tokens.", low=8)
        rows: int = flag(10_000, help="Questions of a run; fewer are repeated.", low=1)
        rounds: int = flag(5, help="Rounds; in each both sides run once.", low=1)
        witness_python: str = flag(sys.executable, help="An interpreter that has transformers.")

    groups = lambda _: (BenchFlags, AnswerOptions, SourceConfig)  # noqa: E731
    return flags.main("python tools/bench/featurise.py", str(__doc__), argv, groups, run)


def run(options: Any, answer: Any, source: Any) -> int:
    """Measure and print the table; returns the exit code."""
    import dataclasses

    from kbert import runtime

    runtime.start()
    import numpy as np
    import tensorflow as tf

    from kbert.config import EncoderConfig, ModelConfig, TextConfig
    from kbert.sources import open_table
    from kbert.tasks.answer import Answer
    from kbert.text import Tokenizer, read_vocabulary

    vocabulary = read_vocabulary(Path(options.vocab))
    fields = Answer.fields(source)
    config = ModelConfig(
        task="answer",
        fields=fields,
        labels=(),
        options=dataclasses.asdict(answer),
        encoder=EncoderConfig(vocabulary_size=len(vocabulary), num_layers=1, num_heads=1, hidden_dim=1, intermediate_dim=1),
        text=TextConfig(lowercase=options.lowercase, strip_accents=options.lowercase),
        max_length=options.max_length,
    )
    task = Answer(config, Tokenizer(vocabulary, lowercase=options.lowercase, strip_accents=options.lowercase))
    audit = task.audit(options.input, fields, ())
    table = open_table(options.input, source, task.columns(source), keyed_by=2, nested=task.nested, check=audit)
    names = (*fields, *task.gold)
    numbers = np.resize(np.arange(len(table)), max(options.rows, len(table)))
    columns = dict(zip(names, table.read(numbers).values(), strict=True))

    @tf.function(input_signature=[{name: tf.TensorSpec([None], tf.string) for name in names}])
    def featurised(raw: dict[str, Any]) -> tuple[Any, ...]:
        encoded = task.encode(raw)
        places = (encoded["begins"].flat_values, encoded["ends"].flat_values)
        return (encoded["token_ids"].flat_values, encoded["row"], task.supervise(raw, encoded), *places)

    # Traced once, as a training run does.
    rows = tf.data.Dataset.from_tensor_slices(columns).batch(ROWS).map(featurised, num_parallel_calls=tf.data.AUTOTUNE)

    def kbert() -> tuple[int, int]:
        windows = answered = 0
        for _, row, target, *_ in rows:
            windows += len(row)
            answered += int(tf.math.count_nonzero(target[:, 1]))
        return windows, answered

    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "rows.json"
        data.write_text(json.dumps({name: [value.decode() for value in column] for name, column in columns.items()}))
        settings = {"max_length": options.max_length, "stride": answer.doc_stride, "lowercase": options.lowercase}
        command = [options.witness_python, str(HERE), "--witness", options.vocab, str(data), json.dumps(settings)]
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "true"}
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment) as other:
            assert other.stdin is not None and other.stdout is not None

            def hugging_face() -> tuple[float, int, int]:
                assert other.stdin is not None and other.stdout is not None
                other.stdin.write("\n")
                other.stdin.flush()
                line = other.stdout.readline()
                if not line:
                    raise SystemExit(f"{options.witness_python}: the Hugging Face side has stopped; see above")
                seconds, windows, answered = json.loads(line)
                return seconds, windows, answered

            kbert()  # both sides once before the clock starts: tracing, imports
            hugging_face()
            rounds = []
            for _ in range(options.rounds):
                start = time.perf_counter()
                ours = kbert()
                seconds = time.perf_counter() - start
                theirs = hugging_face()
                rounds.append((len(numbers) / seconds, len(numbers) / theirs[0]))
            other.stdin.close()
    print(f"{options.input}: {len(numbers):,} questions, {len(table):,} of them different")
    print(f"windows of {options.max_length} tokens, {answer.doc_stride} shared")
    print(f"{'':<14}{'rows/s':>10}{'lowest':>10}{'highest':>10}{'windows':>10}{'with answer':>13}")
    for name, found, counts in zip(("kbert", "Hugging Face"), zip(*rounds, strict=True), (ours, theirs[1:]), strict=True):
        speeds = f"{statistics.median(found):>10,.0f}{min(found):>10,.0f}{max(found):>10,.0f}"
        print(f"{name:<14}{speeds}{counts[0]:>10,}{counts[1]:>13,}")
    ratios = [a / b for a, b in rounds]
    print(f"ratio {statistics.median(ratios):.1f} ({min(ratios):.1f} to {max(ratios):.1f})")
    return 0


def witness(vocabulary: str, data: str, settings: str) -> int:
    """The Hugging Face side: a round for every line read, whose seconds and counts it prints."""
    from transformers import BertTokenizerFast  # type: ignore[import-not-found, unused-ignore]

    given = json.loads(settings)
    columns = json.loads(Path(data).read_text())
    tokenizer = BertTokenizerFast(vocab_file=vocabulary, do_lower_case=given["lowercase"])
    answers = [json.loads(text) for text in columns["answers"]]
    for _ in sys.stdin:
        start = time.perf_counter()
        windows = answered = 0
        for at in range(0, len(answers), 1000):
            features = tokenizer(
                [text.lstrip() for text in columns["question"][at : at + 1000]],
                columns["context"][at : at + 1000],
                truncation="only_second",
                max_length=given["max_length"],
                stride=given["stride"],
                return_overflowing_tokens=True,
                return_offsets_mapping=True,
            )
            for i, offsets in enumerate(features["offset_mapping"]):
                first, last = _span(answers[at + features["overflow_to_sample_mapping"][i]], offsets, features.sequence_ids(i))
                windows += 1
                answered += last > 0 and first >= 0
        print(json.dumps([time.perf_counter() - start, windows, answered]), flush=True)
    return 0


def _span(gold: list[dict[str, Any]], offsets: list[tuple[int, int]], segments: list[int | None]) -> tuple[int, int]:
    """First and last token of the answer; 0, 0 where the window does not hold it."""
    if not gold:
        return 0, 0
    begin, end = gold[0]["answer_start"], gold[0]["answer_start"] + len(gold[0]["text"])
    first, last = 0, len(offsets) - 1
    while segments[first] != 1:
        first += 1
    while segments[last] != 1:
        last -= 1
    if offsets[first][0] > begin or offsets[last][1] < end:
        return 0, 0
    while first < len(offsets) and offsets[first][0] <= begin:
        first += 1
    while offsets[last][1] >= end:
        last -= 1
    return first - 1, last + 1


if __name__ == "__main__":
    sys.exit(witness(*sys.argv[2:]) if sys.argv[1:2] == ["--witness"] else main())
