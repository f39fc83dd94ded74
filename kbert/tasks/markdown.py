"""Format tables of texts in Markdown for TensorBoard. No TensorFlow here."""

import textwrap
from collections.abc import Iterable, Sequence

LONGEST = 500  # characters of a cell
WIDEST = 80  # and of a line in it: beside wider ones TensorBoard breaks other columns between letters
CHINESE = "\u2e80"  # the first of the characters that are twice as wide as others, without blanks between words


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Format a table whose cells show their text literally, long ones on several lines."""
    lines = [[_cell(text) for text in header], ["---"] * len(header), *([_cell(text) for text in row] for row in rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _cell(text: str) -> str:
    text = text if len(text) <= LONGEST else text[:LONGEST] + "…"
    lines = textwrap.wrap(" ".join(text.split()), WIDEST // 2 if max(text, default="") >= CHINESE else WIDEST)
    return "<br>".join(_literal(line) for line in lines)


def _literal(text: str) -> str:
    text = text.replace("&", "&amp;").replace("<", "&lt;")
    return "".join("\\" + c if c in "\\|`*_[]~#" else c for c in text)
