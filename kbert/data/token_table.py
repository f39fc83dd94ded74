"""Read tables of a token a row, with a column that numbers sentences.

    Sentence #,Word,POS,Tag
    Sentence: 1,Ada,NNP,B-per
    ,lives,VBZ,O
    Sentence: 2,Rain,NN,O

In: a csv or tsv file. Out: as in `kbert.data.sentences`. A row belongs to the sentence of the row before it if its
sentence column is blank or has the same value.
Source: Kaggle's "Annotated Corpus for Named Entity Recognition", simpletransformers' data frames (sentence_id, words, labels).
"""

import io
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from kbert.data.delimited import Tsv
from kbert.data.sentences import Sentences
from kbert.data.tokens import Tokens
from kbert.errors import DataError

# Names of columns, in any case of letters.
SENTENCES = "sentence #,sentence,sentence_id,sentence id,sentence_idx,sentence_number,sent_id,sent_idx".split(",")
WORDS = "word words token tokens".split()
TAGS = "tag tags ner ner_tag ner_tags label labels".split()


class Places(NamedTuple):
    """Positions of the columns: of the sentences' numbers, of tokens and of tags."""

    sentence: int
    word: int
    tag: int | None


class TokenTable(Sentences):
    """Rows of a table, of which several are a sentence; see `kbert.data.sentences.Sentences`.

    Args:
        rows: the layout of the table.
        names: the names of its columns.
        places: where the columns are.
    """

    def __init__(self, rows: Tsv, names: Sequence[str], places: Places, tokens: Tokens | None):
        super().__init__(rows.encoding, places.tag is not None, tokens)
        self.rows, self.names, self.places = rows, names, places
        read = [names[place] for place in (places.word, places.tag) if place is not None]
        self.note = f"sentences by the column {names[places.sentence]!r}, of {' and '.join(map(repr, read))}"

    def records(self, lines: Iterator[bytes]) -> Iterator[bytes]:
        block: list[bytes] = []
        number = ""
        for record in self.rows.records(lines):
            try:
                fields = self.rows.fields(record)
            except ValueError:
                fields = []  # `lists` reports it
            now = fields[self.places.sentence].strip() if len(fields) > self.places.sentence else ""
            if block and now and now != number:
                yield b"".join(block)
                block = []
            number = now or number
            block.append(record)
        if block:
            yield b"".join(block)

    def lists(self, record: bytes) -> tuple[list[str], list[str], tuple[str, ...]]:
        words, tags = [], []
        for each in self.rows.records(iter(io.BytesIO(record))):
            fields = self.rows.fields(each)
            if not any(field.strip() for field in fields):
                continue
            if len(fields) != len(self.names):
                raise ValueError(f"{len(fields)} columns, expected {len(self.names)} ({', '.join(self.names)}): {fields}"[:160])
            words.append(fields[self.places.word])
            if self.places.tag is not None:
                tags.append(fields[self.places.tag])
        if not all(words) or not all(tags):
            raise ValueError(f"an empty token or tag in the sentence that begins with {' '.join(words[:5])!r}")
        return words, tags, ()


def places_of(name: str, names: Sequence[str], columns: Sequence[str], label: str) -> Places | None:
    """Return where a table's sentences, tokens and tags are; None if it has no tokens in rows.

    Args:
        name: the file, for messages.
        names: of its columns.
        columns: the columns to read: of tokens and, if tags are read, of tags.
        label: the value of --label_column.

    Raises:
        DataError: several columns may be meant.
    """
    plain = [each.strip().casefold() for each in names]
    sentences = [i for i, each in enumerate(plain) if each in SENTENCES]
    if len(sentences) != 1 or any(column != label for column in columns[1:]):
        return None
    word = _place(name, names, plain, columns[0], "text", "--text_columns", WORDS)
    if word is None or plain[word] not in WORDS:
        return None
    if len(columns) == 1:
        return Places(sentences[0], word, None)
    tag = _place(name, names, plain, label, "label", "--label_column", TAGS)
    return None if tag is None else Places(sentences[0], word, tag)


def _place(
    name: str, names: Sequence[str], plain: Sequence[str], column: str, default: str, flag: str, usual: Sequence[str]
) -> int | None:
    if column in names:
        return list(names).index(column)
    found = [i for i, each in enumerate(plain) if each in usual] if column == default else []
    if len(found) > 1:
        shown = " and ".join(repr(names[i]) for i in found)
        raise DataError(f"{name}: no column {column!r}; {shown} may be meant: {flag}={names[found[0]]} or another")
    return found[0] if found else None
