"""Fine-tune a BERT checkpoint on a task: `python -m kbert.finetune --flagfile=configs/NAME.flags`."""

import dataclasses
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kbert import cluster, flags, runtime
from kbert.config import ModelConfig, ModelFlags, Recorded, RunFlags, SourceConfig, TextConfig, TrainConfig, to_json
from kbert.data.label_names import LabelNames
from kbert.errors import DataError, UsageError
from kbert.model_dir import ModelDir
from kbert.tasks import OPTIONS

if TYPE_CHECKING:
    from kbert.data.table import Table
    from kbert.tasks.base import Audit, Task
    from kbert.train.strategies import Devices

log = logging.getLogger("kbert.finetune")  # __name__ is "__main__" when it runs

ABOUT = """
Fine-tune a BERT checkpoint, keep what is best on dev, and write a model directory that kbert.evaluate,
kbert.predict and kbert.export read. Interrupted, the same command continues from the last checkpoint;
finished, it continues when --epochs was raised.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns its exit code."""
    groups = lambda task: (RunFlags, TrainConfig, ModelFlags, OPTIONS[task or "classify"])  # noqa: E731
    return flags.main("python -m kbert.finetune", ABOUT, argv, groups, run, takes_task=True)


def run(run_flags: RunFlags, train: TrainConfig, model_flags: ModelFlags, options: Any) -> int:
    """Train, or continue, or say that there is nothing to do; returns the exit code."""
    if train.dev_data and train.dev_fraction:
        raise UsageError("--dev_data and --dev_fraction exclude each other")
    if not train.dev_data and not train.dev_fraction:
        train = dataclasses.replace(train, dev_fraction=0.1)
    options.check(model_flags.max_length)
    directory = ModelDir(run_flags.model_dir)
    directory.check_writable(run_flags.overwrite)
    directory.check_not_in(train.init)

    cluster.check(train.strategy, train.batch_size)
    with directory.held(cluster.is_chief(train.strategy)):
        runtime.start()
        from kbert.train import strategies

        with strategies.devices(train.strategy, train.batch_size, train.accumulation_steps) as devices:
            _train(run_flags, train, model_flags, options, directory, devices)
    return 0


def _train(
    run_flags: RunFlags, train: TrainConfig, model_flags: ModelFlags, options: Any, directory: ModelDir, devices: "Devices"
) -> None:
    """What `run` does, in each of the processes that do it together."""
    from kbert import checkpoints, permutation
    from kbert.model.encoder import frozen_table
    from kbert.serving import build_model
    from kbert.tasks import fine_tuned, lengths, starting_head
    from kbert.train import batches as pipeline
    from kbert.train import run as training

    if devices.chief and not run_flags.overwrite:
        directory.set_damaged_aside()
    devices.wait()
    train = dataclasses.replace(train, data_order=directory.data_order(run_flags.overwrite))
    name = next(task for task, cls in OPTIONS.items() if isinstance(options, cls))
    task_type = fine_tuned(name)
    fields = task_type.fields(train.source)
    task_options = to_json(task_type.resolve_options(options, train.source))
    checkpoint = checkpoints.open_checkpoint(train.init)
    log.info("%s", checkpoints.describe(checkpoint))
    shape = checkpoint.encoder
    if train.freeze_layers > shape.num_layers:
        raise UsageError(f"--freeze_layers={train.freeze_layers}: the checkpoint has {shape.num_layers} layers")
    if model_flags.max_length > shape.max_sequence_length:
        raise UsageError(
            f"--max_length={model_flags.max_length}: the checkpoint has positions for {shape.max_sequence_length} tokens"
        )
    if len(fields) > shape.num_segments:
        raise UsageError(f"--text_columns: the checkpoint knows {shape.num_segments} segment, a pair needs 2")

    tables, labels, task_options = _tables(task_type, train, fields, task_options, checkpoint.text)
    model_config = ModelConfig(
        task=name,
        fields=fields,
        labels=labels,
        options=task_options,
        encoder=shape,
        text=checkpoint.text,
        max_length=model_flags.max_length,
    )
    train = dataclasses.replace(train, train_data_crc32=tables["train"].digest, dev_data_crc32=tables["dev"].digest)
    if not run_flags.overwrite and directory.exists():
        directory.check_same(model_config, train, checkpoint.vocabulary)
        finished = directory.finished(train)
        if finished is not None:
            if devices.chief and not _measured(directory, train):
                directory.write_config(model_config, train, checkpoint.vocabulary)
                _measure(directory, tables, train)
            print(finished)
            return

    training.seed(train.seed)
    with devices.strategy.scope():
        task, encoder, model = build_model(task_type, model_config, checkpoint.vocabulary, train.precision, train.dropout)
    if task.grouped and (train.accumulation_steps > 1 or train.strategy != "none"):
        raise UsageError(
            f"--accumulation_steps={train.accumulation_steps}, --strategy={train.strategy}: the loss of this task needs the "
            "whole of a batch, in one part on one device"
        )
    task.check_trainable()
    if task.stages and train.strategy != "none":
        raise UsageError(f"--strategy={train.strategy}: what this task learns first ({task.stages[0]}) takes one device")
    if not encoder.load(checkpoint.arrays(), train.init):
        log.warning("--init=%s has no pooler, which the task reads: it starts at random values, as the head does", train.init)
    starting_head.start(task, model, encoder, checkpoint, train.init, new=train.new_head)
    encoder.freeze_lower(train.freeze_layers, train.freeze_embeddings)
    if not model.trainable_variables and train.total_steps(1):
        raise UsageError(
            f"--freeze_layers={train.freeze_layers}: nothing is left to train, as the task has no weights of its own"
        )
    devices.wait()  # for the others to have looked at what is there
    if devices.chief:
        directory.begin(model_config, train, checkpoint.vocabulary, run_flags.overwrite)
    devices.wait()
    print(frozen_table(model, encoder), flush=True)
    for stage in task.prepare(tables["train"]):
        training.learn_first(stage, tables["train"], tables["dev"], train, directory.stage(stage.name))
    examples = pipeline.training_examples(task, tables["train"], train.seed)
    length = model_flags.max_length if train.strategy == "tpu" else None
    seed = permutation.seed_of(train.seed, train.data_order)
    batches = pipeline.TableBatches(task, examples, batch_size=train.batch_size, seed=seed, length=length)
    if task.windowed:
        log.info(
            "%d rows are read in %d windows of up to %d tokens",
            len(tables["train"]),
            len(examples),
            task.config.max_length,
        )
        for sentence in task.survey(pipeline.raw_rows(task, tables["train"], gold=True)):
            log.info("%s", sentence)
    found = lengths.survey(task, tables["train"])
    if found:
        log.info("%s", found)
    measure = training.dev_measure(task, model, checkpoint.vocabulary, tables["dev"], train.precision)
    training.Run(task, model, train, directory, batches, measure, devices).fit()
    if devices.chief:
        _measure(directory, tables, train)
    print(f"\nmodel: {directory.path}")


def _measure(directory: ModelDir, tables: dict[str, "Table"], train: TrainConfig) -> None:
    """Write and print the kept checkpoint's figures: dev's, which it has, and test's."""
    from kbert import serving
    from kbert.tasks import lengths
    from kbert.train import run as training

    best, predictor = directory.best(), serving.load(directory.path)
    reports = {"dev": predictor.task.report(best.metrics)}
    if "test" in tables:
        cut = lengths.CutRows(predictor.task)
        reports["test"] = training.evaluate(predictor, tables["test"], "test", also=cut)
        if cut.cut:
            log.info("test: %s", cut)
    metrics = {split: report.metrics for split, report in reports.items()}
    directory.write_metrics({"step": best.step, "epoch": best.epoch, "test_data": train.test_data, **metrics})
    for split, report in reports.items():
        for warning in report.warnings():
            log.warning("%s: %s", split, warning)
        print(f"\n{split} ({len(tables[split]):,} rows), {best.place}, the best on dev:\n{report.table()}")


def _measured(directory: ModelDir, train: TrainConfig) -> bool:
    """Whether metrics.json speaks of the kept checkpoint, and of the test data if some are asked for."""
    metrics = directory.metrics()
    return metrics.get("step") == directory.best().step and train.test_data in (None, metrics.get("test_data"))


def _tables(
    task_type: "type[Task]", train: TrainConfig, fields: tuple[str, ...], options: dict[str, Any], casing: TextConfig
) -> tuple[dict[str, "Table"], tuple[str, ...], dict[str, Any]]:
    """The tables by split, every row validated, the labels in order, and the options with what the rows settle."""
    from kbert.data.table import open_table
    from kbert.tasks import splits

    former, columns, learnt = train.data_order == 1, task_type.columns(train.source), task_type.learnt_columns(train.source)
    extra = len(learnt) - len(columns)

    def opened(
        source: str, labels: Sequence[str] | None, config: SourceConfig, recorded: Recorded | None = None
    ) -> tuple["Table", "Audit"]:
        audit = task_type.audit(source, fields, labels, options)
        table = open_table(
            source,
            config,
            learnt if recorded is None else columns,
            recorded=recorded,
            keyed_by=len(fields),
            split_by=(former and task_type.former_split_by) or task_type.split_by,
            alike=None if former or recorded is not None or train.dev_data else splits.hashed(casing),
            nested=task_type.nested,
            reader=task_type.reader(train.source),
            tokens=task_type.tokens(options),
            check=audit if recorded is not None or not extra else lambda values: audit(values[:-extra]),
            usual=task_type.usual,
        )
        if recorded is None:  # the training rows
            for note in audit.check_learnable():
                log.warning("%s", note)
        audit.finish()
        return table, audit

    tables = {}
    tables["train"], audit = opened(train.train_data, _labels_file(train.labels), train.source)
    labels = audit.labels
    options = task_type.resolve_options_from_rows(tables["train"], options)
    # How the training rows are written, the other files may be, or say themselves that they are not.
    later = Recorded.of(train.source, train.train_data, labels).overridden()
    if train.dev_data:
        tables["dev"], _ = opened(train.dev_data, labels, *later)
    else:
        made = lambda name: task_type.audit(name, fields, labels, options)  # noqa: E731
        names = None if former else fields[task_type.split_by]
        fraction = train.dev_fraction or 0.1
        tables["train"], tables["dev"] = splits.divided(tables["train"], extra, names, fraction, made)
    if train.test_data:
        tables["test"], _ = opened(train.test_data, labels, *later)
    log.info(
        "%s",
        ", ".join(f"{split} {len(table):,} rows" for split, table in tables.items())
        + (f", {len(labels):,} labels" if labels else ""),
    )
    return tables, labels, options


def _labels_file(name: str | None) -> list[str] | None:
    if name is None:
        return None
    path = Path(name).expanduser()
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"--labels={name}: not readable: {error}") from None
    names, labels = LabelNames(chosen=True), []
    for number, line in enumerate(lines, 1):
        if line.strip():
            labels.append(line.strip())
            try:
                note = names.add(labels[-1])
            except ValueError as error:
                raise DataError(f"--labels={name}:{number}: {error}") from None
            if note:
                log.warning("--labels=%s:%d: %s", name, number, note)
    twice = {label for label in labels if labels.count(label) > 1}
    if twice:
        raise DataError(f"--labels={name}: {min(twice)!r} stands twice")
    return labels


if __name__ == "__main__":
    sys.exit(main())
