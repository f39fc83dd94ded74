"""Read sentences whose text is a list of tokens and whose gold is a list of their tags.

    {"tokens": ["Ada", "lives", "in", "Oslo"], "ner_tags": ["B-PER", "O", "O", "B-LOC"]}
    {"tokens": ["It", "rains"], "ner_tags": ["O", "O"]}
    {"tokens": ["Ada", "Osei", "sings"], "ner_tags": ["B-PER", "I-PER", "O"]}

In: objects, of JSON lines or of another document. Out: as in `kbert.data.sentences`. Tags may be numbers, whose names
`--label_names` gives. Source: Hugging Face's data sets for token classification (conll2003, wnut_17).
"""

import json
from typing import Any

from kbert.data.json_lines import Converted, JsonLines
from kbert.data.sentences import Sentences
from kbert.data.tokens import Tokens


class TokenLists(Sentences):
    """Objects with lists; see `kbert.data.sentences.Sentences`.

    Args:
        lines: reads the objects; its first column is the tokens, its second, if `tagged`, the tags.
        numbered: whether the tags may be numbers.
    """

    def __init__(self, lines: JsonLines, tagged: bool, tokens: Tokens | None, numbered: bool):
        super().__init__(lines.encoding, tagged, tokens)
        self.numbered, self.note = numbered, lines.note
        self.lines = lines
        lines.nested = tuple(lines.columns[: 1 + tagged])
        if isinstance(lines, Converted):
            self.place = lines.place

    def row(self, record: bytes) -> dict[str, Any]:
        """Return all columns of a record by name."""
        return self.lines.row(record) or {}

    def lists(self, record: bytes) -> tuple[list[str], list[str], tuple[str, ...]]:
        row = self.lines.row(record)
        if row is None:
            return [], [], ()
        words, *tags = (row.get(column) for column in self.lines.columns[: 1 + self.tagged])
        if not all(isinstance(column, list) for column in (words, *tags)):  # JSON text in JSON, or a mistake
            words, *tags = map(_parsed, self.lines.of(row)[: 1 + self.tagged])
        words = self._strings(words, "tokens")
        others = self.lines.of(row, self.lines.columns[1 + self.tagged :])
        if not self.tagged:
            return words, [], others
        found = self._strings(tags[0], "tags")
        if len(words) != len(found):
            raise ValueError(f"{len(words)} tokens, but {len(found)} tags")
        return words, found, others

    def _strings(self, found: Any, what: str) -> list[str]:
        if self.numbered and what == "tags" and isinstance(found, list):
            found = [str(item) if type(item) is int else item for item in found]
        if not isinstance(found, list) or not {*map(type, found)} <= {str} or not all(found):
            hint = "; --label_names=FILE gives the names of numeric tags" if what == "tags" else ""
            shown = found if isinstance(found, str) else json.dumps(found)
            raise ValueError(f"expected a list of {what}, non-empty strings, found {shown[:80]}{hint}")
        return found


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
