"""Fine-tuning as a `Job`: a checkpoint and tables in, a task's model and its figures on dev and test out."""

import dataclasses
import logging
from collections.abc import Callable
from typing import Any

from kbert import checkpoints
from kbert.checkpoints.new_tokens import add_tokens
from kbert.config import ModelConfig, ModelFlags, TrainConfig
from kbert.errors import UsageError
from kbert.model.encoder import Encoder
from kbert.model_dir import ModelDir
from kbert.permutation import seed_of
from kbert.serving import load
from kbert.settings import to_json
from kbert.tasks import fine_tuned, lengths, starting_head, task_of
from kbert.tasks.base import Built, Task
from kbert.tasks.reports import Report
from kbert.tasks.tables import read_tables
from kbert.train.batches import TableBatches, raw_rows, training_examples
from kbert.train.batching import Batches
from kbert.train.run import dev_measure, evaluate, learn_first
from kbert.train.session import Job, check_shape
from kbert.train.strategies import Devices

log = logging.getLogger(__name__)


class FineTuning(Job):
    """A checkpoint that learns a task from tables.

    Args:
        train: how to train.
        model_flags: the limits of the model.
        options: the task's, which say which task it is.

    Raises:
        UsageError: the checkpoint cannot do what the flags ask for.
        DataError: a mistake in the checkpoint, the tables or the labels.
    """

    def __init__(self, train: TrainConfig, model_flags: ModelFlags, options: Any):
        name = task_of(options)
        task_type = fine_tuned(name)
        fields = task_type.fields(train.source)
        resolved = to_json(task_type.resolve_options(options, train.source))
        checkpoint = checkpoints.open_checkpoint(train.init)
        log.info("%s", checkpoints.describe(checkpoint))
        checkpoint = add_tokens(checkpoint, train.add_tokens, train.seed)
        check_shape(checkpoint.encoder, train, model_flags.max_length)
        known, needed = checkpoint.encoder.num_segments, options.segments(fields)
        if needed > known:
            raise UsageError(f"--task={name}: the checkpoint knows {known} segment, the task needs {needed}")
        tables, labels, resolved = read_tables(task_type, train, fields, resolved, checkpoint.text)
        self.task_type, self.checkpoint, self.tables = task_type, checkpoint, tables
        self.vocabulary = checkpoint.vocabulary
        self.train: TrainConfig = dataclasses.replace(
            train, train_data_crc32=tables["train"].digest, dev_data_crc32=tables["dev"].digest
        )
        self.config = ModelConfig(
            task=name,
            fields=fields,
            labels=labels,
            options=resolved,
            encoder=checkpoint.encoder,
            text=checkpoint.text,
            max_length=model_flags.max_length,
        )

    def set_start(self, task: Task, built: Built, encoder: Encoder) -> None:
        train = self.train
        if built.by_row and train.strategy == "tpu":
            raise UsageError("--strategy=tpu: windows of long texts, whose number differs by batch, are not read there")
        if task.grouped and not built.by_row and (train.accumulation_steps > 1 or train.strategy != "none"):
            raise UsageError(
                f"--accumulation_steps={train.accumulation_steps}, --strategy={train.strategy}: the loss of this task needs "
                "the whole of a batch, in one part on one device"
            )
        task.check_trainable()
        if task.stages and train.strategy != "none":
            raise UsageError(f"--strategy={train.strategy}: what this task learns first ({task.stages[0]}) takes one device")
        if not encoder.load(self.checkpoint.arrays(), train.init):
            log.warning(
                "--init=%s has no pooler, which the task reads: it starts at random values, as the head does", train.init
            )
        starting_head.start(task, built.model, encoder, self.checkpoint, train.init, new=train.new_head)

    def prepare(
        self, task: Task, built: Built, encoder: Encoder, directory: ModelDir, devices: Devices
    ) -> tuple[Batches, Callable[[], Report]]:
        train, rows, dev = self.train, self.tables["train"], self.tables["dev"]
        for stage in task.prepare(rows):
            learn_first(stage, rows, dev, train, directory.stage(stage.name))
        examples = training_examples(task, rows, train.seed, built.model)
        length = self.config.max_length if train.strategy == "tpu" else None
        seed = seed_of(train.seed, train.data_order)
        batches = TableBatches(task, examples, batch_size=train.batch_size, seed=seed, length=length)
        if task.windowed:
            log.info("%d rows are read in %d windows of up to %d tokens", len(rows), len(examples), task.config.max_length)
            for sentence in task.survey(raw_rows(task, rows, gold=True)):
                log.info("%s", sentence)
        if found := lengths.survey(task, rows):
            log.info("%s", found)
        return batches, dev_measure(task, built, self.vocabulary, dev, train.precision)

    def has_metrics(self, directory: ModelDir) -> bool:
        return super().has_metrics(directory) and self.train.test_data in (None, directory.metrics().get("test_data"))

    def write_metrics(self, directory: ModelDir) -> None:
        best = directory.best()
        reports = {"dev": self.task_type.report(best.metrics)}
        if "test" in self.tables:
            predictor = load(directory.path)
            cut = lengths.CutRows(predictor.task)
            reports["test"] = evaluate(predictor, self.tables["test"], "test", also=cut)
            if cut.cut:
                log.info("test: %s", cut)
        metrics = {split: report.metrics for split, report in reports.items()}
        directory.write_metrics({"step": best.step, "epoch": best.epoch, "test_data": self.train.test_data, **metrics})
        for split, report in reports.items():
            for warning in report.warnings():
                log.warning("%s: %s", split, warning)
            print(f"\n{split} ({len(self.tables[split]):,} rows), {best.place}, the best on dev:\n{report.table()}")
