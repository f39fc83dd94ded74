"""Measure the speed of making training features of rows: kbert against the feature steps of Hugging Face's run_qa and run_ner.

    python tools/bench/featurise.py --task=answer --vocab=vocab.txt --lowercase --input=train.json [--witness_python=PATH]
    python tools/bench/featurise.py --task=tag --vocab=vocab.txt --lowercase --input=train.conll [--witness_python=PATH]

kbert: windows, offsets and targets by the graph that training runs, 1,024 rows at a time. Hugging Face: the
fast tokenizer, 1,000 rows at a time, and the loop over rows that follows it: as in run_qa.py's
`prepare_train_features`, which finds start and end of the answer in each window, or as in run_ner.py's
`tokenize_and_align_labels`, which is handed words and assigns each one's tag to its first piece; in a second
interpreter that has transformers and needs no kbert. Both read the same rows on the same cores, in turn.
Medians over the rounds; the ratio is the median of the rounds'.
"""

import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve()
ROWS = 1024  # at once, as `kbert.train.batches.READ_ROWS`


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    from kbert import flags
    from kbert.settings import flag
    from kbert.source import SOURCE_HELP, SourceConfig
    from kbert.tasks import OPTIONS

    @dataclass(frozen=True, kw_only=True)
    class BenchFlags:
        vocab: str = flag(help="A vocab.txt.")
        lowercase: bool = flag(False, help="The vocabulary is of an uncased model.")
        input: str = flag(help=f"Rows with gold: {SOURCE_HELP}.")
        max_length: int = flag(384, help="Longest window, in tokens.", low=8)
        rows: int = flag(10_000, help="Rows of a run; fewer are repeated.", low=1)
        rounds: int = flag(5, help="Rounds; in each both sides run once.", low=1)
        witness_python: str = flag(sys.executable, help="An interpreter that has transformers.")

    groups = lambda task: (BenchFlags, OPTIONS[task or "answer"], SourceConfig)  # noqa: E731
    return flags.main("python tools/bench/featurise.py", str(__doc__), argv, groups, run, takes_task=True)


def run(options: Any, task_options: Any, source: Any) -> int:
    """Measure and print the table; return the exit code."""
    import dataclasses

    from kbert import runtime
    from kbert.errors import UsageError
    from kbert.tasks import OPTIONS

    name = next(task for task, cls in OPTIONS.items() if isinstance(task_options, cls))
    if name not in ("answer", "tag"):
        raise UsageError(f"--task={name}: answer and tag are measured")

    runtime.start()
    import numpy as np
    import tensorflow as tf

    from kbert.config import EncoderConfig, ModelConfig, TextConfig
    from kbert.data.indexing import open_table
    from kbert.data.tokenizer import Tokenizer
    from kbert.data.vocabulary import read_vocabulary
    from kbert.tasks import fine_tuned

    vocabulary = read_vocabulary(Path(options.vocab))
    task_type = fine_tuned(name)
    fields = task_type.fields(source)
    audit = task_type.audit(options.input, fields, None)
    columns_read = task_type.columns(source)
    table = open_table(
        options.input,
        source,
        columns_read,
        keyed_by=len(fields),
        nested=task_type.nested({}),
        reader=task_type.reader(source),
        tokens=task_type.tokens({}),
        check=audit,
    )
    config = ModelConfig(
        task=name,
        fields=fields,
        labels=audit.labels,
        options=dataclasses.asdict(task_options),
        encoder=EncoderConfig(vocabulary_size=len(vocabulary), num_layers=1, num_heads=1, hidden_dim=1, intermediate_dim=1),
        text=TextConfig(lowercase=options.lowercase, strip_accents=options.lowercase),
        max_length=options.max_length,
    )
    task = task_type(config, Tokenizer(vocabulary, lowercase=options.lowercase, strip_accents=options.lowercase))
    names = (*task.inputs, *task.gold)
    numbers = np.resize(np.arange(len(table)), max(options.rows, len(table)))
    columns = dict(zip(names, table.read(numbers).values(), strict=True))

    @tf.function(input_signature=[{name: tf.TensorSpec([None], tf.string) for name in names}])
    def featurised(raw: dict[str, Any]) -> tuple[Any, ...]:
        encoded = task.encode(raw)
        target = task.supervise(raw, encoded)
        # A question's answer ends at its second number; of words, a tag above 0 is of an entity.
        learnt = target[:, 1] if name == "answer" else target.flat_values
        return encoded["row"], learnt, tuple(tf.nest.flatten(encoded, expand_composites=True))

    def kbert() -> tuple[int, int]:
        windows = learnt = 0
        for start in range(0, len(numbers), ROWS):
            row, target, _ = featurised({name: tf.constant(columns[name][start : start + ROWS]) for name in names})
            windows += len(row)
            learnt += int(tf.math.count_nonzero(target > 0))
        return windows, learnt

    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "rows.json"
        data.write_text(json.dumps({name: [value.decode() for value in column] for name, column in columns.items()}))
        stride = getattr(task_options, "doc_stride", 0)
        settings = {"task": name, "max_length": options.max_length, "stride": stride, "lowercase": options.lowercase}
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
    print(f"{options.input}: {len(numbers):,} rows, {len(table):,} of them different")
    print(f"windows of {options.max_length} tokens")
    learnt = "with answer" if name == "answer" else "in entities"
    print(f"{'':<14}{'rows/s':>10}{'lowest':>10}{'highest':>10}{'windows':>10}{learnt:>13}")
    for name, found, counts in zip(("kbert", "Hugging Face"), zip(*rounds, strict=True), (ours, theirs[1:]), strict=True):
        speeds = f"{statistics.median(found):>10,.0f}{min(found):>10,.0f}{max(found):>10,.0f}"
        print(f"{name:<14}{speeds}{counts[0]:>10,}{counts[1]:>13,}")
    ratios = [a / b for a, b in rounds]
    print(f"ratio {statistics.median(ratios):.1f} ({min(ratios):.1f} to {max(ratios):.1f})")
    return 0


def witness(vocabulary: str, data: str, settings: str) -> int:
    """Return the Hugging Face side: a round for every line read, whose seconds and counts it prints."""
    from transformers import BertTokenizerFast  # type: ignore[import-not-found, unused-ignore]

    given = json.loads(settings)
    columns = json.loads(Path(data).read_text())
    tokenizer = BertTokenizerFast(vocab_file=vocabulary, do_lower_case=given["lowercase"])
    features = _questions(tokenizer, columns, given) if given["task"] == "answer" else _words(tokenizer, columns, given)
    for _ in sys.stdin:
        start = time.perf_counter()
        windows, learnt = features()
        print(json.dumps([time.perf_counter() - start, windows, learnt]), flush=True)
    return 0


def _questions(tokenizer: Any, columns: dict[str, list[str]], given: dict[str, Any]) -> Callable[[], tuple[int, int]]:
    answers = [json.loads(text) for text in columns["answers"]]

    def features() -> tuple[int, int]:
        windows = answered = 0
        for at in range(0, len(answers), 1000):
            found = tokenizer(
                [text.lstrip() for text in columns["question"][at : at + 1000]],
                columns["context"][at : at + 1000],
                truncation="only_second",
                max_length=given["max_length"],
                stride=given["stride"],
                return_overflowing_tokens=True,
                return_offsets_mapping=True,
            )
            for i, offsets in enumerate(found["offset_mapping"]):
                first, last = _span(answers[at + found["overflow_to_sample_mapping"][i]], offsets, found.sequence_ids(i))
                windows += 1
                answered += last > 0 and first >= 0
        return windows, answered

    return features


def _words(tokenizer: Any, columns: dict[str, list[str]], given: dict[str, Any]) -> Callable[[], tuple[int, int]]:
    """run_ner.py is handed words and their tags, which are made here before the clock starts."""
    words, tags = [], []
    for text, gold in zip(columns["text"], columns["entities"], strict=True):
        places = [(m.start(), m.end()) for m in re.finditer(r"\S+" if " " in text else r"\S", text)]
        spans = [(span["start"], span["end"]) if isinstance(span, dict) else span[:2] for span in json.loads(gold)]
        words.append([text[start:end] for start, end in places])
        tags.append([int(any(start < b and a < end for a, b in spans)) for start, end in places])

    def features() -> tuple[int, int]:
        rows = learnt = 0
        for at in range(0, len(words), 1000):
            found = tokenizer(words[at : at + 1000], is_split_into_words=True, truncation=True, max_length=given["max_length"])
            for i in range(len(found["input_ids"])):
                of_row, before, labels = tags[at + i], None, []
                for word in found.word_ids(batch_index=i):
                    labels.append(-100 if word is None or word == before else of_row[word])
                    before = word
                rows += 1
                learnt += labels.count(1)
        return rows, learnt

    return features


def _span(gold: list[dict[str, Any]], offsets: list[tuple[int, int]], segments: list[int | None]) -> tuple[int, int]:
    """Return the first and last token of the answer; 0, 0 if the window does not hold it."""
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
