"""How the rows of a SOURCE are read: in training, and for a trained model. No TensorFlow."""

import csv
import dataclasses
import typing
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from kbert.errors import UsageError
from kbert.settings import flag

Offsets = Literal["characters", "utf16", "bytes"]
Ends = Literal["exclusive", "inclusive"]
# Of files; "squad" is another name of "json".
Format = Literal[
    "tsv", "csv", "jsonl", "json", "squad", "txt", "conll", "tagged", "fasttext", "terms", "semeval", "brat",
    "parquet", "arrow", "xlsx",
]  # fmt: skip
SOURCE_HELP = (
    "files of any of the formats of --format, each also .gz, folders, globs, several of these, comma-separated, or "
    "tfds:name[/config]:split"
)


@dataclass(frozen=True, kw_only=True)
class SourceConfig:
    """How rows are read from a SOURCE."""

    columns: tuple[str, ...] = flag(
        (), help="Column names, comma-separated, for tsv/csv files without a header row, and for conll."
    )
    text_columns: tuple[str, ...] = flag(
        ("text",),
        help="Column of the text; two, comma-separated, for pairs of texts. For conll the column of the tokens, by its name in"
        " --columns or its number (1 is the first, -1 the last), by default the first (FORM in CoNLL-U).",
    )
    label_column: str = flag(
        "label",
        help="Column of the label, or of another target. For conll the column of the tags, by name or number, by default the "
        "last (UPOS in CoNLL-U).",
    )
    encoding: str = flag("utf-8", help="Character encoding of the files, for example gb18030.")
    delimiter: str = flag(",", help="Column separator of csv files; `tab` for a tab.")
    format: Literal["auto", Format] = flag(
        "auto",
        help="File format; auto infers it from the extension and the file (see docs/layouts.md).",
    )
    label_names: str | None = flag(
        None,
        help="File of names of numbered labels or tags: lines of a number and its name (`1 World`), or JSON (`id2label`).",
    )
    tag_scheme: Literal["auto", "IO"] = flag(
        "auto",
        help="How tags of tokens without prefixes (PER, O) are read: IO reads O as outside and a run of tokens of one type as "
        "one entity; auto does so where O is frequent.",
    )
    tfds_dir: str | None = flag(None, help="Directory of the TFDS data sets.", otherwise="TFDS's own, ~/tensorflow_datasets")

    offsets: Offsets | None = flag(
        None,
        help="Unit of the offsets of entities and answers (start, end, answer_start): characters, UTF-16 code units, as in "
        "JavaScript, Java and C#, or UTF-8 bytes.",
        otherwise="characters; if most entities then cut words, that is an error",
    )
    ends: Ends | None = flag(
        None,
        help="Whether the `end` of an entity is the offset after its last character (exclusive) or that of its last character "
        "(inclusive).",
        otherwise="exclusive; inclusive in CLUENER's layout",
    )
    skip_bad_rows: str | None = flag(
        None,
        help="Leave out rows that cannot be read, and write them to this file, as JSON lines with file, line, reason and row.",
        otherwise="not set; such rows are an error that lists them",
    )

    def read_by(self, fields: Sequence[str]) -> "SourceConfig":
        """The same for a trained model with these raw inputs: without further columns, which training alone reads."""
        return dataclasses.replace(self, text_columns=self.text_columns[: len(fields)])

    def check_all_read(self) -> None:
        """Raise UsageError for `skip_bad_rows` where an output has one line or vector a row, and no numbers of rows."""
        if self.skip_bad_rows is not None:
            raise UsageError(f"--skip_bad_rows={self.skip_bad_rows}: the output has no row numbers and so needs all rows")

    def flag_of(self, column: str) -> str | None:
        """Return the flag that names a column; None if it is neither that of a text nor of a label."""
        if column in self.text_columns:
            return "--text_columns"
        return "--label_column" if column in self.label_columns else None

    @property
    def label_columns(self) -> tuple[str, ...]:
        """The columns that `label_column` names, comma-separated; a name with a comma stands in double quotes."""
        return tuple(name.strip() for name in next(csv.reader([self.label_column], skipinitialspace=True), ()))


AS_TRAINED = {"default": "as in training"}
OVERRIDDEN: dict[str, dict[str, str]] = {"skip_bad_rows": {}}
# The same fields without defaults, for commands on a trained model: what is not given is as in training, but for bad rows.
SourceOverrides = dataclasses.make_dataclass(
    "SourceOverrides",
    [
        (f.name, hint | None, field(default=None, metadata={**f.metadata, **OVERRIDDEN.get(f.name, AS_TRAINED)}))
        for f, hint in zip(dataclasses.fields(SourceConfig), typing.get_type_hints(SourceConfig).values(), strict=True)
    ],
    frozen=True,
    kw_only=True,
)


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """What training said of its files, for later ones where these say nothing themselves.

    Attributes:
        source: training's flags; where a later command has a flag of its own, that.
        ending: of the training file, for example .tsv.
        labels: the model's.
        given: the flags that a later command has of its own; None where the command is training's.
    """

    source: SourceConfig
    ending: str = ""
    labels: tuple[str, ...] = ()
    given: tuple[str, ...] | None = None

    @classmethod
    def of(cls, source: SourceConfig, file: str, labels: tuple[str, ...]) -> "Recorded":
        """What training on a file said."""
        return cls(source=source, ending=Path(file.removesuffix(".gz")).suffix.lower(), labels=labels)

    def overridden(self, overrides: Any = None) -> tuple[SourceConfig, "Recorded"]:
        """What holds for a later command on the model: what it says itself, and what training said besides.

        The names of the columns are training's unless given; so is where TFDS keeps its data. How a file is written
        (`WRITTEN`) it may say itself. Bad rows are left out only where the command says so.
        """
        given = {} if overrides is None else {name: value for name, value in vars(overrides).items() if value is not None}
        both = dataclasses.replace(self.source, **given)
        # Several columns are the model's outputs in the order of training, in which they are read whatever the order given.
        if sorted(both.label_columns) == sorted(self.source.label_columns):
            both = dataclasses.replace(both, label_column=self.source.label_column)
        own = {name: given.get(name, getattr(SourceConfig(), name)) for name in WRITTEN}
        if overrides is not None:
            own["skip_bad_rows"] = given.get("skip_bad_rows")
        return dataclasses.replace(both, **own), dataclasses.replace(
            self, source=both, given=None if overrides is None else tuple(given)
        )


WRITTEN = ("columns", "encoding", "format", "delimiter")  # of a SourceConfig: how files are written
