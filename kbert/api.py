"""kbert from Python: the same settings, checks and functions as those of the command lines.

In: arguments named as the flags are, and rows as files or Python objects. Out: a trained `Model`, answers, metrics, vectors.
Whatever a command takes as a source (`train_data`, `data`, `input`) may here also be a list of dicts, of tuples (in the order
of the columns: texts, then labels) or of texts, a pandas DataFrame, a `tf.data.Dataset` of single rows, or a Hugging Face
`Dataset`. A string always names files. TensorFlow is imported when a function is called.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import kbert.adopt as adoption
import kbert.encode as encoding
from kbert import evaluate, export, finetune, keywords, predict, pretrain, runtime
from kbert.data.rows import Rows
from kbert.errors import UsageError
from kbert.source import SourceOverrides
from kbert.tasks import OPTIONS, RECORDED
from kbert.trained import model_directory

if TYPE_CHECKING:
    import numpy as np

    from kbert.config import ModelConfig
    from kbert.serving import Predictor

SOURCES = ("train_data", "dev_data", "test_data")


class Model:
    """A trained model; `load` and `train` return one.

    Attributes:
        path: its model directory.
        config: what it is: task, fields, labels, options, encoder.

    Examples:
        >>> model = kbert.load("models/mine")
        >>> model.config.labels
        ('negative', 'positive')
    """

    def __init__(self, model_dir: str | os.PathLike[str], n_best: int | None = None):
        self._directory = model_directory(model_dir)
        self._directory.read_config()[0].with_n_best(n_best)
        self.path: Path = self._directory.path
        runtime.start()
        from kbert import serving

        self._predictor: Predictor[Any] = serving.load(self.path, n_best)
        self.config: ModelConfig = self._predictor.task.config

    def __repr__(self) -> str:
        return f"kbert.load({str(self.path)!r})  # task={self.config.task}"

    def predict(
        self, rows: Any, *, id_column: str | None = None, carry: Sequence[str] | str = (), **source: Any
    ) -> list[dict[str, Any]]:
        """Answer rows, as `python -m kbert.predict` does.

        Args:
            rows: the texts; of a model that reads pairs, tuples or dicts. A string names a file.
            id_column: a column whose value is returned with each answer, as `id`.
            carry: columns to return with each answer, or "all"; texts then have the names of their columns, and what the
                model says under a name that such a column has is `predicted_NAME`.
            source: how the rows are read (`text_columns`, `format`, ...) where that is not as in training.

        Returns:
            For each row a dict of JSON values: `row` (from 1), the texts, the model's answer, and `cut` where the row is
            longer than what the model reads of it.

        Raises:
            DataError: a row is malformed, named as "row 17 of rows", or as FILE:LINE.
            UsageError: an argument is unknown or wrong.

        Examples:
            >>> [answer["label"] for answer in model.predict(["a good film", "a dull plot"])]
            ['positive', 'negative']
        """
        with keywords.errors_in_python(rows := keywords.source("rows", rows)):
            (overrides,) = keywords.instances(lambda _: (SourceOverrides,), source)
            name = os.fspath(rows)
            columns = (carry,) if isinstance(carry, str) else tuple(carry)
            how: Any = {"id_column": id_column, "carry": columns}
            return list(predict.answers(self._directory, name, overrides, lambda: self._predictor, **how))

    def evaluate(self, data: Any, **source: Any) -> dict[str, Any]:
        """Measure the model on labelled rows, as `python -m kbert.evaluate` does.

        Args:
            data: the rows, with labels. A string names files.
            source: how they are read (`text_columns`, `label_column`, ...) where that is not as in training.

        Returns:
            The metrics that `--metrics_out` writes; which they are depends on the task.

        Raises:
            DataError: a row is malformed, named as "row 17 of data", or as FILE:LINE.
            UsageError: an argument is unknown or wrong, or the model is a pre-trained one.

        Examples:
            >>> model.evaluate([("a good film", "positive"), ("a dull plot", "negative")])["accuracy"]
            1.0
        """
        with keywords.errors_in_python(data := keywords.source("data", data)):
            (overrides,) = keywords.instances(lambda _: (SourceOverrides,), source)
            report, _ = evaluate.measure(self._directory, os.fspath(data), overrides, lambda: self._predictor)
            return report.metrics

    def export(
        self,
        export_dir: str | os.PathLike[str],
        version: int | None = None,
        *,
        certify: bool = True,
        target_serving: str | None = None,
        keep_versions: int | None = None,
    ) -> Path:
        """Write a SavedModel that answers raw text, as `python -m kbert.export` does.

        Args:
            export_dir: directory of the versions.
            version: number of this one; by default the next free one.
            certify: whether to publish it only if a new process without kbert answers the same.
            target_serving: oldest release of TensorFlow Serving that has to have the model's operations, as "2.16".
            keep_versions: how many versions to keep; by default all.

        Returns:
            The directory written, EXPORT_DIR/VERSION.

        Raises:
            UsageError: the version exists.
            DataError: the directory cannot be written, or the version fails its certificate; then nothing is published.

        Examples:
            >>> model.export("savedmodels/mine").name
            '1'
        """
        from kbert import serving

        with keywords.errors_in_python():
            checks: dict[str, Any] = {"certify": certify, "target_serving": target_serving, "keep_versions": keep_versions}
            given = {"model_dir": self.path, "export_dir": export_dir, "version": version, **checks}
            (options,) = keywords.instances(lambda _: (export.ExportFlags,), given)
            return serving.export(self._predictor, options.export_dir, options.version, **checks)


def load(model_dir: str | os.PathLike[str], *, n_best: int | None = None) -> Model:
    """Load the best checkpoint of a model directory.

    Args:
        model_dir: a directory that `train`, `python -m kbert.finetune` or `python -m kbert.pretrain` has written.
        n_best: answers a row, in place of the model's own number, where the task gives several.

    Raises:
        DataError: no model is there, it has no checkpoint yet, or a file of it is damaged.
        UsageError: `n_best` of a task that gives one answer.

    Examples:
        >>> kbert.load("models/mine").predict(["a good film"])[0]["label"]
        'positive'
    """
    with keywords.errors_in_python():
        return Model(model_dir, n_best)


def train(*, task: str | None = None, **arguments: Any) -> Model:
    """Train a model, or continue its run, as `python -m kbert.finetune` and `python -m kbert.pretrain` do.

    The training loop prints a line at each measurement on dev. Ctrl-C ends it after the running step with a checkpoint, from
    which the same call continues; KeyboardInterrupt is raised. Notes on the data are logged by the logger `kbert`.

    Args:
        task: classify (the default), tag, answer, match or aspect; pretrain for pre-training on plain text.
        arguments: the flags of the command by name, for example `init`, `train_data`, `dev_data`, `model_dir`,
            `freeze_layers`, `epochs`; or `flagfile`, a file of them, which the others override. `train_data`, `dev_data` and
            `test_data` may be rows (not for pretrain).

    Returns:
        The model with the weights that are best on dev.

    Raises:
        UsageError: an argument is unknown, missing, or does not go with the others.
        DataError: a row is malformed, named as "row 17 of train_data", or as FILE:LINE; or a checkpoint is.
        KbertError: the loss diverged, or memory is used up.

    Examples:
        >>> rows = [("a good film", "positive"), ("a dull plot", "negative")]
        >>> model = kbert.train(init="bert_base_en", train_data="train.tsv", dev_data=rows, freeze_layers=1, epochs=1,
        ...                     max_length=32, model_dir="models/new")
        layer ...
        >>> model.config.task
        'classify'
    """
    sources = {name: keywords.source(name, arguments[name]) for name in SOURCES if name in arguments}
    with keywords.errors_in_python(*sources.values()):
        if task in RECORDED.keys() - OPTIONS.keys():
            for name, value in sources.items():
                if isinstance(value, Rows):
                    raise UsageError(f"{name}: task={task} reads files of text, found {type(value.values).__name__}")
            groups = keywords.instances(lambda _: pretrain.GROUPS, arguments)
            pretrain.run(*groups)
        else:
            groups = keywords.instances(finetune.groups, {"task": task, **arguments, **sources}, takes_task=True)
            finetune.run(*groups)
    return load(groups[0].model_dir)


def adopt(init: str | os.PathLike[str], model_dir: str | os.PathLike[str], **arguments: Any) -> Model:
    """Make a model of a checkpoint that another toolkit fine-tuned, as `python -m kbert.adopt` does.

    Args:
        init: the checkpoint: a directory of Hugging Face, or a Google TF1 checkpoint.
        model_dir: the directory to write.
        arguments: the command's other flags by name, for example `task`, `text_columns`, `max_length`, `labels`.

    Returns:
        The model, with the checkpoint's labels.

    Raises:
        UsageError: an argument is unknown, or does not go with the checkpoint.
        DataError: the checkpoint is malformed, or its head cannot be served exactly.

    Examples:
        >>> kbert.adopt("finetuned_en", "models/adopted").predict(["a good film"])[0]["label"]
        'positive'
    """
    with keywords.errors_in_python():
        given = {"init": init, "model_dir": model_dir, **arguments}
        run_flags, *groups = keywords.instances(adoption.groups, given, takes_task="optional")
        adoption.write(run_flags, *groups)
    return load(run_flags.model_dir)


def encode(init: "str | os.PathLike[str] | Model", texts: Any, **arguments: Any) -> "np.ndarray":
    """Encode texts as vectors, one each, as `python -m kbert.encode` does.

    Args:
        init: a checkpoint: a directory of any form, a preset's name, or a `Model`.
        texts: the texts. A string names a file of them.
        arguments: the command's flags for sentences by name, for example `pooling`, `layers`, `normalize`, `max_length`.

    Returns:
        float32 [texts, size]; size is the encoder's width unless several poolings or layers are joined.

    Raises:
        UsageError: an argument is unknown, or does not go with the others.
        DataError: the checkpoint or a row is malformed.

    Examples:
        >>> kbert.encode("bert_base_en", ["a good film", "a dull plot"], pooling="cls").shape
        (2, ...)
    """
    import tempfile

    import numpy as np

    texts = keywords.source("texts", texts)
    for name in ("input", "output", "output_format", "export_dir", "overwrite", "unit"):
        if name in arguments:
            raise UsageError(f"{name}: a flag of python -m kbert.encode alone; kbert.encode returns a vector for each text")
    with tempfile.TemporaryDirectory(prefix="kbert-") as folder, keywords.errors_in_python(texts):
        place = os.path.join(folder, "vectors.npy")
        where: Mapping[str, Any] = {"init": init.path if isinstance(init, Model) else init, "input": texts, "output": place}
        encoding.run(*keywords.instances(lambda _: encoding.GROUPS, {**arguments, **where}))
        vectors: np.ndarray = np.load(place)
        return vectors
