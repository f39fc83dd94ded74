"""Format tables of texts in Markdown for TensorBoard. No TensorFlow here."""

from collections.abc import Iterable, Sequence

LONGEST = 500  # characters of a cell


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Format a table whose cells show their text literally, on one line."""
    lines = [[_cell(text) for text in header], ["---"] * len(header), *([_cell(text) for text in row] for row in rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _cell(text: str) -> str:
    text = text if len(text) <= LONGEST else text[:LONGEST] + "…"
    text = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;")
    return "".join("\\" + c if c in "\\|`*_[]~#" else c for c in text)
