"""Make a model of a checkpoint that another toolkit fine-tuned, without training. No TensorFlow until weights are read.

In: a checkpoint with a head, and what its files leave open. Out: the model's configuration and weights, as a model directory.
Which heads a task serves, and with which settings it gives the answers of the toolkit that they come from, is in
`kbert.tasks.NAME.adopted`. A head that none serves exactly is an error with the reason.
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

from kbert import recorded
from kbert.checkpoints import Arrays, Checkpoint, open_checkpoint, places
from kbert.checkpoints.casing import read_settings
from kbert.checkpoints.head import Head, Unfit
from kbert.checkpoints.names import of_head
from kbert.checkpoints.sentence_transformers import AVOID, SentenceSettings, read_sentence_settings
from kbert.config import ModelConfig, RunConfig
from kbert.data.label_names import read_labels
from kbert.errors import DataError, KbertError, UsageError
from kbert.model_dir import ModelDir, directory_of
from kbert.saved import Figures
from kbert.settings import flag, to_json
from kbert.source import SourceConfig
from kbert.tasks import ADOPTING, OPTIONS, RECORDED, adopter, task_of
from kbert.tasks.options import TaskOptions


@dataclass(frozen=True, kw_only=True)
class AdoptionFlags:
    """What the files of a checkpoint leave open."""

    # Not a task's own defaults: those that follow from the checkpoint come first.
    DEFAULTS: ClassVar[dict[str, Any]] = {"text_columns": (), "label_column": "", "max_length": None}

    text_columns: tuple[str, ...] = flag(
        (), help="Columns of the texts in later files; two for a classifier of pairs.", otherwise="the task's own; one text"
    )
    label_column: str = flag("", help="Column of the label in later files.", otherwise="the task's own")
    labels: str | None = flag(
        None, help="File of the names of outputs that the checkpoint gives no names, one per line, in their order."
    )
    max_length: int | None = flag(
        None,
        help="Maximum input length in tokens, including [CLS] and [SEP].",
        otherwise="the tokenizer's model_max_length, or the positions of the checkpoint; for --task=answer at most 384",
        low=3,
    )


@dataclass(frozen=True, kw_only=True)
class Foreign:
    """A checkpoint to adopt.

    Attributes:
        options: those of the task that the user names; None where its head says it.
        limit: the longest input in tokens.
        truncation: the side at which its tokenizer cuts longer ones.
        names: the labels that the user names.
        vectors: how sentence-transformers makes vectors of it; None if it is no such directory.
    """

    init: str
    checkpoint: Checkpoint
    flags: AdoptionFlags
    options: TaskOptions | None
    limit: int
    truncation: str
    names: tuple[str, ...] | None
    vectors: SentenceSettings | None = None

    @property
    def head(self) -> Head | None:
        return self.checkpoint.head

    def labels(self, head: Head) -> tuple[str, ...]:
        """Return the names of a head's outputs.

        Raises:
            UsageError: the user's are more or fewer, or others than the checkpoint's.
        """
        if self.names is None:
            return head.names
        if len(self.names) != head.size:
            raise UsageError(f"--labels={self.flags.labels}: {len(self.names)} labels, but the {head} has {head.size} outputs")
        if head.labels and head.named and self.names != head.labels:
            raise UsageError(
                f"--labels={self.flags.labels}: names {', '.join(self.names[:8])}, but the checkpoint's own labels are "
                f"{', '.join(head.labels[:8])}"
            )
        return self.names


@dataclass(frozen=True, kw_only=True)
class Adopted:
    """What a task makes of a checkpoint.

    Attributes:
        fields: the raw inputs.
        options: the task's options that follow from the checkpoint; the others are the user's, or defaults.
        head: the head's weights in the model, by its variables' paths, from those in the checkpoint.
        answers: what the model answers, for messages.
        max_length: the longest input in tokens, unless the user sets it.
        label_column: of later files.
    """

    fields: tuple[str, ...]
    answers: str
    head: Callable[[Arrays], Arrays]
    labels: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    max_length: int | None = None
    label_column: str | None = None


class Adopt(Protocol):
    """What `kbert.tasks.NAME.adopted` defines."""

    def __call__(self, foreign: Foreign) -> Adopted | None:
        """Return how the task serves a checkpoint; None if that has no head of its kind.

        Raises:
            Unfit: it has one that the task cannot serve exactly.
        """


@dataclass(frozen=True, kw_only=True)
class Adoption:
    """A model made of a checkpoint.

    Attributes:
        config: what it is.
        train: where it comes from, and how later files are read.
        weights: reads its weights by variable path.
    """

    config: ModelConfig
    train: RunConfig
    vocabulary: list[str]
    weights: Callable[[], Arrays]
    answers: str

    def __str__(self) -> str:
        reads = " and ".join(self.config.fields)
        return f"--task={self.config.task}: {self.answers}\nreads {reads}, up to {self.config.max_length} tokens"

    def write(self, directory: ModelDir, overwrite: bool = False) -> None:
        """Write the model as a directory, as a run does.

        Raises:
            UsageError: the directory holds a model, and is not to be overwritten.
            DataError: it cannot be written, or the checkpoint's weights are damaged.
        """
        directory.check_writable(overwrite)
        if directory.exists() and not overwrite:
            raise UsageError(
                f"--model_dir={directory.path} holds a model; use --overwrite to replace it, or another --model_dir"
            )
        weights = self.weights()
        with directory.held():
            directory.create(self.config, self.train, self.vocabulary)
            directory.save(weights, {}, Figures(step=0, per_epoch=1, adopted=True))


def read(init: str, flags: AdoptionFlags, options: TaskOptions | None = None) -> Adoption:
    """Determine the model that a checkpoint is, and check all but the values of its weights.

    Args:
        init: the checkpoint.
        options: those of the task that the user names, which have to agree with the checkpoint; None to ask all tasks.

    Raises:
        DataError: the checkpoint is damaged or not a BERT, or no task serves its head exactly.
        UsageError: the flags do not go with it.
    """
    foreign = _opened(init, flags, options)
    asked = ADOPTING if options is None else (task_of(options),)
    found: dict[str, Adopted] = {}
    reasons: list[str] = []
    for name in asked:
        try:
            adopted = adopter(name)(foreign) if name in ADOPTING else None
        except Unfit as reason:
            reasons.append(f"{f'its {foreign.head}' if foreign.head else 'it'} cannot be served exactly: {reason}")
            continue
        if adopted is not None:
            found[name] = adopted
    if not found:
        raise DataError(f"--init={init}: {reasons[0] if reasons else _headless(foreign, asked)}")
    if len(found) > 1:
        ways = "; ".join(f"--task={name} for {adopted.answers}" for name, adopted in found.items())
        raise UsageError(f"--init={init}: its {foreign.head} may be read in two ways, and no file says which: {ways}")
    ((name, adopted),) = found.items()
    return _completed(foreign, name, adopted)


def way(init: str) -> str:
    """Say in one line what an adopted checkpoint answers, or why it cannot be adopted as it is."""
    try:
        return str(read(init, AdoptionFlags())).replace("\n", "; ")
    except KbertError as error:
        return f"not as it is: {str(error).removeprefix(f'--init={init}: ')}"


def _opened(init: str, flags: AdoptionFlags, options: TaskOptions | None) -> Foreign:
    path = Path(init).expanduser()
    own = ModelDir(directory_of(path) or path)
    if own.path.is_dir() and own.exists():
        raise UsageError(f"--init={init}: is a kbert model already; use --model_dir={own.path}")
    checkpoint = open_checkpoint(init)
    place = places.find(init)
    settings = read_settings(place[0]) if place else {}
    positions = checkpoint.encoder.max_sequence_length
    if flags.max_length is not None and flags.max_length > positions:
        raise UsageError(f"--max_length={flags.max_length}: the checkpoint has positions for {positions} tokens")
    names = read_labels(flags.labels)
    try:
        vectors = read_sentence_settings(init, lowercase=checkpoint.text.lowercase) if place else None
    except DataError as error:
        raise DataError(str(error).removesuffix(AVOID)) from None
    # That of sentence-transformers replaces the tokenizer's, a shorter one too.
    stated = (vectors.max_length if vectors else None) or settings.get("model_max_length")
    limit = int(stated) if isinstance(stated, int | float) and 3 <= stated < positions else positions
    return Foreign(
        init=init,
        checkpoint=checkpoint,
        flags=flags,
        options=options,
        limit=limit,
        truncation=str(settings.get("truncation_side") or "right"),
        names=None if names is None else tuple(names),
        vectors=vectors,
    )


def _headless(foreign: Foreign, asked: tuple[str, ...]) -> str:
    """Say why no task has a use for a checkpoint."""
    checkpoint = foreign.checkpoint
    if checkpoint.ignored:
        return f"tensor {checkpoint.ignored[0]!r} belongs to a head that kbert does not have"
    if foreign.head is None and any(map(of_head, checkpoint.shapes)):
        return f"has no head that a task answers with{f', of --task={asked[0]}' if len(asked) == 1 else ''}"
    if foreign.head is not None:
        return f"its {foreign.head} is not one of --task={asked[0]}; without --task, the head decides"
    return (
        f"has no head{f' of --task={asked[0]}' if len(asked) == 1 else ''}: kbert finetune trains one, and kbert encode serves "
        "vectors of its layers"
    )


def _completed(foreign: Foreign, name: str, adopted: Adopted) -> Adoption:
    flags, checkpoint = foreign.flags, foreign.checkpoint
    if checkpoint.ignored:
        raise DataError(
            f"--init={foreign.init}: its {foreign.head or 'head'} cannot be served exactly: tensor {checkpoint.ignored[0]!r} "
            "belongs to a part that kbert does not have"
        )
    length = flags.max_length or min(adopted.max_length or foreign.limit, foreign.limit)
    kind = RECORDED[name]
    options = foreign.options or kind()
    for key, value in adopted.options.items():
        given, default = getattr(options, key), getattr(kind, key, None)
        if given not in (value, default):
            raise UsageError(f"--{key}={given}: the checkpoint's head has {value}")
    options = dataclasses.replace(options, **adopted.options).completed(length)
    options.check(length)
    columns = flags.text_columns or kind.DEFAULTS.get("text_columns", adopted.fields)
    if len(columns) != len(adopted.fields):
        raise UsageError(
            f"--text_columns={','.join(columns)}: the model reads {len(adopted.fields)} ({', '.join(adopted.fields)})"
        )
    label = flags.label_column or adopted.label_column
    if label is None:
        label = kind.DEFAULTS.get("label_column", SourceConfig.label_column)
    config = ModelConfig(
        task=name,
        fields=adopted.fields,
        labels=adopted.labels,
        options=to_json(options),
        encoder=checkpoint.encoder,
        text=checkpoint.text,
        max_length=length,
    )
    recorded.check_model(config, f"--init={foreign.init}")
    source: Any = {"source": SourceConfig(text_columns=columns, label_column=label)} if name in OPTIONS else {}
    return Adoption(
        config=config,
        train=kind.TRAINED_BY(init=foreign.init, train_data="", epochs=0, **source),
        vocabulary=checkpoint.vocabulary,
        weights=lambda: {**checkpoint.arrays(), **adopted.head(checkpoint.heads())},
        answers=adopted.answers,
    )
