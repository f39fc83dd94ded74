"""Parse sentences that are given as tokens with their tags, in columns.

In: lines of bytes. Out: a record for each sentence, and from it the text, the tokens' offsets and the gold, as strings.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, TYPE_CHECKING

from kbert.data.bad_rows import AtLine
from kbert.data.conll import Reading
from kbert.data.conll_columns import Columns, first_line, is_universal
from kbert.data.conll_survey import scheme, survey
from kbert.data.encodings import decode
from kbert.data.label_numbers import LabelNumbers
from kbert.data.memo import Memo
from kbert.data.schemes import Tags
from kbert.data.suspicion import check
from kbert.data.tokens import Tokens
from kbert.errors import DataError
from kbert.source import SourceConfig

if TYPE_CHECKING:
    from kbert.data.file_settings import FileSettings


class Tokenised:
    """One sentence a block of lines: a token and its tag a line, then a blank line; see `kbert.data.conll`.

    The columns are the text, the tokens' offsets if requested, and the gold.
    """

    def __init__(self, encoding: str, reading: Reading, placed: bool):
        self.encoding, self.reading, self.placed = encoding, reading, placed
        self.note = ""  # which columns are taken from training

    @classmethod
    def of(
        cls,
        name: str,
        stream: IO[bytes],
        settled: "FileSettings",
        columns: Sequence[str],
        config: SourceConfig,
        tokens: Tokens | None,
    ) -> "Tokenised":
        """Create the layout of one file, reading it once to inspect its tags and tokens.

        Args:
            stream: positioned at the file's first line.

        Malformed lines are left out; `values` reports them.

        Raises:
            DataError: tags mix schemes (named as FILE:LINE), or the columns look as if they were chosen by mistake.
            UsageError: a column chosen by flags does not exist.
        """

        def text(line: bytes) -> str | None:
            try:
                return decode(line, settled.encoding)
            except ValueError:
                return None

        def decoded() -> Iterator[str | None]:
            return map(Memo(text).__getitem__, stream)

        start = stream.tell()
        universal = is_universal(first_line(filter(None, decoded())))
        tagged = len(columns) > 1
        chosen = Columns.chosen(
            name,
            settled.columns or settled.recorded_columns,
            config.text_columns[0],
            config.label_column if tagged else None,
            universal=universal,
            lenient=settled.lenient,
            taken=settled.taken - {"label_column"},  # a wrong label column shows as tags unknown to the model
        )
        stream.seek(start)
        seen = survey(decoded(), chosen)
        try:
            tags = Tags("bare") if tagged else None  # should they mix schemes, the likely cause is wrong columns
            usual: Mapping[str, str] = {}
            try:
                if tagged:
                    tags, usual = scheme(name, seen.followed, config.tag_scheme == "IO", LabelNumbers(config.label_names))
                    seen.tags = Counter({usual.get(tag, tag): count for tag, count in seen.tags.items()})
            finally:
                check(name, seen, tags)
        except DataError:
            if not seen.malformed or config.skip_bad_rows is not None:
                raise  # else the malformed lines are the error
        found = cls(settled.encoding, Reading(seen.columns, tags, tokens or "auto", seen.counts, usual), tokens is not None)
        words, tag = config.text_columns[0], config.label_column if tagged else ""
        numbers = [
            f"{what} in column {spec}"
            for key, what, spec in (("text_columns", "tokens", words), ("label_column", "tags", tag))
            if key in settled.taken and re.fullmatch(r"-?\d+", spec)
        ]
        found.note = "; ".join(filter(None, (f"{', '.join(numbers)} as in training" if numbers else "", found.reading.note)))
        return found

    def records(self, lines: Iterator[bytes]) -> Iterator[bytes]:
        block: list[bytes] = []
        ended = False
        for line in lines:
            bare = line.strip(b" \t\r\n")
            if not bare or bare.startswith(b"-DOCSTART-"):
                ended = True
            elif ended:
                yield b"".join(block)
                block = []
                ended = False
            block.append(line)
        if block:
            yield b"".join(block)

    def values(self, record: bytes) -> tuple[str, ...]:
        found = self.reading.sentence(self._lines(record))
        if found is None:
            return ()
        text, places, gold = found
        return (text, *([places] if self.placed else []), *([gold] if self.reading.tags else []))

    def _lines(self, record: bytes) -> list[str]:
        try:
            return decode(record, self.encoding).split("\n")
        except ValueError:
            for number, line in enumerate(record.split(b"\n")):
                try:
                    decode(line, self.encoding)
                except ValueError as error:
                    raise AtLine(str(error), number) from None
            raise
