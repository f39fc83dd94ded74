"""Read and check the inputs of fine-tuning: checkpoint and tables. No TensorFlow, unless the checkpoint needs it.

In: the flags. Out: `Inputs`, of which `kbert.train.fine_tuning` makes a job.
"""

import dataclasses
import logging
from dataclasses import dataclass
from typing import Any

from kbert import checkpoints
from kbert.checkpoints.new_tokens import add_tokens
from kbert.checkpoints.sentence_transformers import other_vectors
from kbert.config import ModelConfig, ModelFlags, TrainConfig
from kbert.data.table import Table
from kbert.errors import UsageError
from kbert.settings import to_json
from kbert.tasks import rows_of, task_of
from kbert.tasks.tables import read_tables
from kbert.train.session import check_shape

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """A checkpoint and tables that a task can be learnt from.

    Attributes:
        checkpoint: the checkpoint; its weights are not read yet.
        tables: the rows by split.
        train: how to train, with the checksums of the data.
        config: the model's.
    """

    checkpoint: checkpoints.Checkpoint
    tables: dict[str, Table]
    train: TrainConfig
    config: ModelConfig


def read_inputs(train: TrainConfig, model_flags: ModelFlags, options: Any) -> Inputs:
    """Open a checkpoint and read all rows.

    Args:
        train: how to train.
        model_flags: the limits of the model.
        options: the task's options, whose class determines the task.

    Raises:
        UsageError: the checkpoint does not support the flags.
        DataError: a mistake in the checkpoint, the tables or the labels.
    """
    name = task_of(options)
    task_rows = rows_of(name)
    fields = task_rows.fields(train.source)
    resolved = to_json(task_rows.resolve_options(options, train.source))
    checkpoint = checkpoints.open_checkpoint(train.init)
    log.info("%s", checkpoints.describe(checkpoint))
    checkpoint = add_tokens(checkpoint, train.add_tokens, train.seed)
    check_shape(checkpoint.encoder, train, model_flags.max_length)
    known, needed = checkpoint.encoder.num_segments, options.segments(fields)
    if needed > known:
        raise UsageError(f"--task={name}: the checkpoint knows {known} segment, the task needs {needed}")
    if (vector := options.text_vector()) is not None and (said := other_vectors(train.init, checkpoint.text, vector)):
        log.warning("%s", said)
    tables, labels, resolved = read_tables(task_rows, train, fields, resolved, checkpoint.text)
    if checkpoint.head is not None and not train.new_head:
        resolved = task_rows.fit_to_head(checkpoint.head, labels, resolved)
    digests: Any = {"train_data_crc32": tables["train"].digest, "dev_data_crc32": tables["dev"].digest}
    config = ModelConfig(
        task=name,
        fields=fields,
        labels=labels,
        options=resolved,
        encoder=checkpoint.encoder,
        text=checkpoint.text,
        max_length=model_flags.max_length,
    )
    return Inputs(checkpoint=checkpoint, tables=tables, train=dataclasses.replace(train, **digests), config=config)
