"""Set dev rows aside, none of which shares a text, as a model sees it, with a training row.

In: a table, with hashes of each row's texts. Out: two tables, one to train on and one to evaluate on.
"""

import logging
import unicodedata
import zlib
from collections.abc import Callable, Iterable

import numpy as np

from kbert.config import TextConfig
from kbert.data.table import Table
from kbert.errors import DataError, KbertError
from kbert.permutation import mixed
from kbert.tasks.rows import Audit

log = logging.getLogger(__name__)

ATTEMPTS = 10  # attempts to set aside rows that can be evaluated
MOST = 0.5  # maximum fraction of rows connected through shared texts


def divided(
    table: Table, extra: int, names: tuple[str, ...] | None, fraction: float, made: Callable[[str], Audit]
) -> tuple[Table, Table]:
    """Split off dev rows, by the first of the draws that leaves usable training and dev rows.

    Args:
        table: the rows.
        extra: number of trailing columns that only training reads; audits and dev rows lack them.
        names: names of the texts hashed in `Table.hashes` `alike`; None to compare exact texts, as in runs of data order 1.
        fraction: approximate fraction of rows to set aside.
        made: creates an audit of rows, given their name.

    Raises:
        DataError: no draw is usable.
    """
    draws: Iterable[np.ndarray]
    if names is None:
        draws = [table.hashes("key") < int(fraction * 2**32)]
    else:
        group = groups(table.hashes("alike")[:, : len(names)], names)
        draws = (set_aside(group, fraction, attempt) for attempt in range(ATTEMPTS))
    problem = f"too few rows: {len(table):,}{table.separator}"
    doubtful: list[tuple[Table, Table, Audit, str]] = []  # usable, but not very informative
    for aside in draws:
        rest, dev = table.split(aside)
        dev = dev.narrowed(extra)
        if not len(rest) or not len(dev):
            continue
        try:
            _audited(rest.narrowed(extra), made(f"{table.name}, without its dev rows")).check_learnable()
            audit = _audited(dev, made(f"{table.name}, its {len(dev):,} dev rows"))
            try:
                audit.check_learnable()
            except KbertError as error:
                doubtful.append((rest, dev, audit, str(error)))
                continue
            audit.finish()
        except KbertError as error:
            problem = str(error)
            continue
        return rest, dev
    for rest, dev, audit, doubt in doubtful:
        try:
            audit.finish()
        except KbertError as worse:
            problem = str(worse)
            continue
        log.warning("%s; give better dev rows with --dev_data, or set more aside with --dev_fraction", doubt)
        return rest, dev
    raise DataError(
        f"{table.name}: no dev rows can be set aside ({problem}); give them with --dev_data, or change --dev_fraction"
    )


def _audited(table: Table, audit: Audit) -> Audit:
    """Run an audit over all rows of a table."""
    for _, columns in table.chunks():
        for row in zip(*columns.values(), strict=True):
            audit(tuple(value.decode() for value in row))
    return audit


def hashed(casing: TextConfig) -> Callable[[str], int]:
    """Return a hash function from a text to 32 bits that ignores what a model's tokenizer ignores.

    These are blanks, invisible characters and the Unicode form, and for uncased models case and accents.
    """

    def of(text: str) -> int:
        if casing.lowercase:
            text = text.lower()
        if not text.isascii():
            text = unicodedata.normalize("NFD" if casing.strip_accents else "NFC", text)
            dropped = ("Mn", "Cc", "Cf") if casing.strip_accents else ("Cc", "Cf")
            text = "".join(c for c in text if c.isspace() or unicodedata.category(c) not in dropped)
        return zlib.crc32("".join(text.split()).encode("utf-8", "surrogatepass"))

    return of


def groups(alike: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
    """Group rows that share a text, directly or through other rows.

    If more than half of the rows are connected in this way, group by only one of the texts: the one with
    the smallest groups, the first of equals. This briefly takes some hundred bytes a row.

    Args:
        alike: hashes of each row's texts, uint32 [rows, texts].
        names: names of the texts.

    Returns:
        The lowest hash of each row's group, uint32 [rows].
    """
    if len(names) == 1:
        return alike[:, 0]
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    known, number = np.unique(alike, return_inverse=True)
    first, second = number.reshape(alike.shape).T
    graph = coo_matrix((np.ones(len(first), bool), (first, second)), shape=(len(known), len(known)))
    group = connected_components(graph, directed=False)[1][first]
    if np.bincount(group).max() <= max(1, MOST * len(group)):
        least = np.full(group.max() + 1, np.iinfo(np.uint32).max, np.uint32)
        np.minimum.at(least, group, alike.min(1))
        return least[group]
    largest = [np.unique(column, return_counts=True)[1].max() for column in alike.T]
    best = int(np.argmin(largest))
    log.warning(
        "most rows are connected through shared texts; dev rows are set aside by the %s alone, and may share the %s with "
        "training rows",
        *(names[best], names[1 - best]),
    )
    return alike[:, best]


def set_aside(group: np.ndarray, fraction: float, attempt: int = 0) -> np.ndarray:
    """Draw whole groups at random, with about a fraction of the rows in all; bool [rows].

    At least one row is set aside if there is more than one group, and one is left. Most groups set aside
    stay so when rows are added; another attempt draws others.
    """
    known, number, sizes = np.unique(group, return_inverse=True, return_counts=True)
    wanted = max(1, round(fraction * len(group)))
    taken = np.zeros(len(known), bool)
    if len(known) > 1:
        have = 0
        for place in np.argsort(mixed(known.astype(np.uint64) + (np.uint64(attempt) << np.uint64(32))), kind="stable"):
            if have + sizes[place] <= wanted:
                taken[place] = True
                have += int(sizes[place])
                if have == wanted:
                    break
        if not have:
            taken[np.argmin(sizes)] = True
    return taken[number]
