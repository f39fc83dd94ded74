"""Read Excel workbooks.

    text           label
    a fine film    pos
    dull           neg

In: an `.xlsx` file whose first row names the columns; one sheet has rows. Out: its rows, by their number in the sheet. Needs
openpyxl, the extra `xlsx`. Memory holds a row, and the workbook's texts. Source: Office Open XML, ECMA-376.
"""

from collections.abc import Iterator, Sequence
from typing import IO, Any

from kbert.errors import UsageError
from kbert.source import SourceConfig


def rows(name: str, stream: IO[bytes], encoding: str, config: SourceConfig, columns: Sequence[str]) -> Iterator[Any]:
    """Yield the rows of a workbook as (place, row).

    Raises:
        UsageError: openpyxl is not installed.
        ValueError: it is no workbook, several sheets have rows, or a column name occurs twice.
    """
    try:
        import openpyxl
    except ImportError:
        raise UsageError(
            f"{name}: a spreadsheet needs openpyxl (pip install 'kbert-keras[xlsx]'); or save it as CSV in UTF-8"
        ) from None
    try:
        book = openpyxl.load_workbook(stream, read_only=True, data_only=True)
    except Exception as error:  # openpyxl passes on what zipfile and its parsers raise
        raise ValueError(f"not a workbook ({error})") from None
    filled = [sheet for sheet in book.worksheets if next(_filled(sheet), None) is not None]
    if len(filled) > 1:
        raise ValueError(
            f"{len(filled)} sheets have rows ({', '.join(sheet.title for sheet in filled)}); keep one, or save each as CSV"
        )
    for sheet in filled:
        found = _filled(sheet)
        header = next(found)[1] if not config.columns else config.columns
        names = ["" if each is None else str(each).strip() for each in header]
        twice = [column for column in columns if names.count(column) > 1]
        if twice:
            raise ValueError(f"column {twice[0]!r} occurs {names.count(twice[0])} times: {', '.join(names)}")
        for number, cells in found:
            row = {column: _value(cell) for column, cell in zip(names, cells, strict=False) if column}
            yield f"row {number}", row


def _filled(sheet: Any) -> Iterator[tuple[int, tuple[Any, ...]]]:
    """Yield the rows of a sheet that are not blank, with their numbers."""
    for number, cells in enumerate(sheet.iter_rows(values_only=True), 1):
        if any(cell is not None for cell in cells):
            yield number, cells


def _value(cell: Any) -> Any:
    return "" if cell is None else cell if isinstance(cell, str | int | float) else str(cell)
