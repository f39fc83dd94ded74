"""Define fine-tuning as a `Job`: a checkpoint and tables in, a task's model and its figures on dev and test out."""

import logging
from collections.abc import Callable

from kbert.config import TrainConfig
from kbert.errors import UsageError
from kbert.model.encoder import Encoder
from kbert.model_dir import ModelDir
from kbert.permutation import seed_of
from kbert.serving import load
from kbert.tasks import fine_tuned, lengths, starting_head
from kbert.tasks.base import Built, Task
from kbert.tasks.reports import Report
from kbert.train import frozen_cache
from kbert.train.batches import TableBatches, raw_rows, training_examples
from kbert.train.batching import Batches
from kbert.train.evaluation import dev_measure, evaluate
from kbert.train.inputs import Inputs
from kbert.train.session import Job
from kbert.train.stages import learn_first
from kbert.train.strategies import Devices

log = logging.getLogger(__name__)


class FineTuning(Job):
    """A checkpoint that learns a task from tables.

    Args:
        inputs: the checkpoint and the tables.
    """

    def __init__(self, inputs: Inputs):
        self.checkpoint, self.tables = inputs.checkpoint, inputs.tables
        self.train: TrainConfig = inputs.train
        self.config = inputs.config
        self.task_type = fine_tuned(self.config.task)
        self.vocabulary = self.checkpoint.vocabulary
        self.cache: frozen_cache.FrozenCache | None = None

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

        def batches_of(rows: int, seed: int = 0) -> TableBatches:
            return TableBatches(task, examples, batch_size=rows, seed=seed, length=length)

        batches = batches_of(train.batch_size, seed)
        if task.windowed:
            log.info("%d rows are read in %d windows of up to %d tokens", len(rows), len(examples), task.config.max_length)
            for sentence in task.survey(raw_rows(task, rows, gold=True)):
                log.info("%s", sentence)
        if found := lengths.survey(task, rows):
            log.info("%s", found)
        reason = frozen_cache.why_not(train, task.repeats, batches.per_epoch)
        if reason is None:
            self.cache = frozen_cache.FrozenCache(train, directory.path)
            self.cache.attach(encoder, train.arithmetic)
            self.cache.fill(built.model, batches_of)
        elif reason:
            log.info("frozen layers are computed at every step: %s", reason)
        return batches, dev_measure(task, built, self.vocabulary, dev, train.arithmetic, self.cache)

    def release(self) -> None:
        if self.cache is not None:
            self.cache.close()

    def has_metrics(self, directory: ModelDir) -> bool:
        return super().has_metrics(directory) and self.train.test_data in (None, directory.metrics().get("test_data"))

    def write_metrics(self, directory: ModelDir) -> None:
        best = directory.best()
        reports = {"dev": self.task_type.report(best.metrics)}
        if "test" in self.tables:
            predictor = load(directory.path)
            cut = lengths.CutRows(predictor.task)
            reports["test"] = evaluate(predictor, self.tables["test"], "test", also=cut)
            cut.log("test")
        metrics = {split: report.metrics for split, report in reports.items()}
        directory.write_metrics({"step": best.step, "epoch": best.epoch, "test_data": self.train.test_data, **metrics})
        for split, report in reports.items():
            for warning in report.warnings():
                log.warning("%s: %s", split, warning)
            print(f"\n{split} ({len(self.tables[split]):,} rows), {best.place}, the best on dev:\n{report.table()}")
