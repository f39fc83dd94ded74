"""The tables that fine-tuning reads, by split, with every row validated.

In: a task's class and the flags that name training, dev and test rows. Out: a `Table` a split, the labels in order, and the
task's options, completed by what the rows are like.
"""

import logging
from collections.abc import Sequence
from typing import Any

from kbert.config import TextConfig, TrainConfig
from kbert.data.bad_rows import BadRows
from kbert.data.indexing import open_table
from kbert.data.label_names import read_labels
from kbert.data.table import Table
from kbert.source import Recorded, SourceConfig
from kbert.tasks import splits
from kbert.tasks.rows import Audit, TaskRows

log = logging.getLogger(__name__)


def read_tables(
    task_type: type[TaskRows], train: TrainConfig, fields: tuple[str, ...], options: dict[str, Any], casing: TextConfig
) -> tuple[dict[str, Table], tuple[str, ...], dict[str, Any]]:
    """Open and validate the tables of a run.

    Args:
        task_type: says how rows are read and checked.
        train: names the sources; without dev data, `dev_fraction` of the training rows are set aside.
        fields: names of the raw inputs.
        options: the task's, as `ModelConfig` has them.
        casing: how the model reads text, by which equal texts are known.

    Returns:
        The tables "train", "dev" and, where there is one, "test"; the labels; the options.

    Raises:
        DataError: a row, or all rows together, cannot be learnt or measured.
    """
    former, columns = train.data_order == 1, task_type.columns(train.source)
    learnt = task_type.learnt_columns(train.source, options)
    extra = len(learnt) - len(columns)

    def opened(
        source: str, labels: Sequence[str] | None, config: SourceConfig, recorded: Recorded | None = None
    ) -> tuple[Table, Audit]:
        audit = task_type.audit(source, fields, labels, options)

        def checked(values: tuple[str, ...]) -> str | None:
            task_type.check_learnt(values, options)
            return audit(values[:-extra])

        table = open_table(
            source,
            config,
            learnt if recorded is None else columns,
            recorded=recorded,
            keyed_by=len(fields),
            split_by=(former and task_type.former_split_by) or task_type.split_by,
            alike=None if former or recorded is not None or train.dev_data else splits.hashed(casing),
            nested=task_type.nested(options),
            reader=task_type.reader(train.source),
            tokens=task_type.tokens(options),
            check=audit if recorded is not None or not extra else checked,
            usual=task_type.usual,
            bad=bad,
            several=task_type.several,
            separator=task_type.separator(options),
        )
        if recorded is None:  # the training rows
            for note in audit.check_learnable():
                log.warning("%s", note)
        audit.finish()
        return table, audit

    tables = {}
    inputs = {"--train_data": train.train_data, "--dev_data": train.dev_data, "--test_data": train.test_data}
    with BadRows(train.source.skip_bad_rows, inputs) as bad:
        tables["train"], audit = opened(train.train_data, read_labels(train.labels), train.source)
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
        options = task_type.fit_options(tables["train"], len(fields), labels, options)
        if train.test_data:
            tables["test"], _ = opened(train.test_data, labels, *later)
    log.info(
        "%s",
        ", ".join(f"{split} {len(table):,} rows" for split, table in tables.items())
        + (f", {len(labels):,} labels" if labels else ""),
    )
    return tables, labels, options
