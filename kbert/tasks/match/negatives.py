"""Draw texts of other rows as negatives of a title, redrawn each epoch.

In: a table of matching pairs. Out: examples, by number: the pairs and their titles with non-matching texts.
A title's draws depend only on (seed, epoch, row), so a resumed run continues as if it had not
stopped. Texts are identified by 32-bit hashes, 16 bytes a row; colliding texts are not used as negatives of each other.
"""

import functools
import logging
import zlib

import numpy as np

from kbert.data.table import Table
from kbert.errors import DataError
from kbert.permutation import permuted
from kbert.progress import Progress

log = logging.getLogger(__name__)

DRAWS = 64  # random draws for a row before all rows are searched


class OtherRows:
    """Determines which rows' texts may be negatives for which titles.

    Excluded are rows with the same title or the same text, and rows whose text is paired with the title in another row.

    Args:
        table: its first two columns are the title and the text.
    """

    def __init__(self, table: Table):
        self.table = table
        self._titles, self._texts = np.empty(len(table), np.uint32), np.empty(len(table), np.uint32)
        with Progress(len(table), desc="hashing texts", unit="row", leave=False) as bar:
            for rows, columns in table.chunks():
                titles, texts = list(columns.values())[:2]
                self._titles[rows.start : rows.stop] = [zlib.crc32(title) for title in titles]
                self._texts[rows.start : rows.stop] = [zlib.crc32(text) for text in texts]
                bar.update(len(rows))
        self._pairs = np.unique(_pair(self._titles, self._texts))
        self._allowed = functools.lru_cache(maxsize=8)(self._allowed_rows)  # few titles exclude most texts

    def __len__(self) -> int:
        return len(self._titles)

    def say_duplicates(self) -> None:
        """Log the number of equal titles and texts, if any."""
        for kind, keys in (("title", self._titles), ("text", self._texts)):
            once = len(np.unique(keys))
            if once < len(keys):
                log.info(
                    "%s: %d rows, %d different %ss; equal ones are never each other's negatives",
                    *(self.table.name, len(keys), once, kind),
                )

    def clash(self, rows: np.ndarray, others: np.ndarray) -> np.ndarray:
        """Return whether the others' texts cannot be negatives for the rows' titles: bool, broadcast over both shapes."""
        same = (self._titles[rows] == self._titles[others]) | (self._texts[rows] == self._texts[others])
        pairs = _pair(self._titles[rows], self._texts[others])
        at = np.minimum(np.searchsorted(self._pairs, pairs), len(self._pairs) - 1)
        return np.asarray(same | (self._pairs[at] == pairs))

    def is_pair(self, row: int, text: bytes) -> bool:
        """Return whether a text is paired with the row's title in any row."""
        pair = _pair(self._titles[row : row + 1], np.array([zlib.crc32(text)], np.uint32))
        return bool((self._pairs[np.minimum(np.searchsorted(self._pairs, pair), len(self._pairs) - 1)] == pair)[0])

    def draw(self, row: int, random: np.random.Generator) -> int:
        """Draw another row whose text is a negative for this row's title: by `DRAWS` attempts, else from all candidates.

        Raises:
            DataError: there are no candidates.
        """
        others = random.integers(len(self), size=DRAWS)
        allowed = ~self.clash(np.array(row), others)
        if allowed.any():
            return int(others[np.argmax(allowed)])
        rows = self._allowed(int(self._titles[row]))
        if not len(rows):
            raise DataError(
                f"{self.table.where(row)}: its title is paired with every text of the file; no negative can be drawn"
            )
        return int(rows[random.integers(len(rows))])

    def _allowed_rows(self, title: int) -> np.ndarray:
        """Return all rows whose text is a negative for a title, given its hash; int64 [rows]."""
        own = self._pairs[slice(*np.searchsorted(self._pairs, np.array([title, title + 1], np.uint64) << np.uint64(32)))]
        return np.flatnonzero(~np.isin(self._texts, own & np.uint64(0xFFFFFFFF)))


class Drawing:
    """Draws negatives of rows: some at random, some from the row's pool of hard ones, and those that the row names itself.

    Args:
        others: the rows; columns of their table after the title and the text hold the rows' own negatives, a text each.
        random: number of texts drawn from all rows.
        hard: number of texts drawn from the row's pool; from all rows if the pool is too small.
        pools: row numbers, int32 [rows, pool], padded with -1; None if `hard` is 0.
    """

    def __init__(self, others: OtherRows, *, random: int, hard: int, pools: np.ndarray | None = None):
        self.others = others
        self.random, self.hard = random, hard
        self.pools = pools
        self.own = others.table.columns[2:]

    def __call__(self, row: int, seed: int, epoch: int) -> list[int]:
        """Draw the rows whose texts are this row's negatives in this epoch: the random ones, then the hard ones."""
        generator = np.random.default_rng([seed, epoch, row])
        drawn = [self.others.draw(row, generator) for _ in range(self.random)]
        if self.pools is not None:
            pool = self.pools[row]
            chosen = generator.permutation(pool[pool >= 0])[: self.hard].tolist()
            drawn += chosen + [self.others.draw(row, generator) for _ in range(self.hard - len(chosen))]
        return drawn

    def named(self, rows: np.ndarray, place: int, seed: int, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the texts that rows name as negatives in one of their columns, and the titles they are paired with, if any.

        If a row names none, or one that is paired with its title elsewhere, a text of another row is drawn instead.
        """
        columns = list(self.others.table.read(rows).values())
        texts = columns[2 + place].copy()
        titles = np.full(len(rows), b"", object)
        for i, row in enumerate(rows.tolist()):
            if not texts[i].strip() or self.others.is_pair(row, texts[i]):
                lent = self.others.draw(row, np.random.default_rng([seed, epoch, row, place]))
                titles[i], texts[i] = (column[0] for column in list(self.others.table.read([lent]).values())[:2])
        return titles, texts


class LabelledPairs:
    """Yields every row's own pair, labelled 1, then its title with each of its negatives, labelled 0."""

    columns = ("title", "text", "label")

    def __init__(self, drawing: Drawing):
        self.drawing = drawing
        self.table = drawing.others.table
        self._drawn = 1 + drawing.random + drawing.hard
        self._each = self._drawn + len(drawing.own)

    @property
    def bytes_each(self) -> float:
        return self.table.row_bytes

    def __len__(self) -> int:
        return len(self.table) * self._each

    def where(self, position: int, seed: int, epoch: int) -> str:
        """Return `FILE:LINE` of the title."""
        return self.table.where(int(permuted(np.array([position]), len(self), seed, epoch)[0]) // self._each)

    def read(self, positions: np.ndarray, seed: int, epoch: int) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
        """See `kbert.tasks.base.Examples`."""
        row, number = np.divmod(permuted(positions, len(self), seed, epoch), self._each)
        number = np.where(number < self._drawn, number, -1 - (number - self._drawn))  # below 0: the row's own negatives
        drawn = {r: [r, *self.drawing(r, seed, epoch)] for r in np.unique(row[number > 0]).tolist()}
        other = np.array([drawn[r][k] if k > 0 else r for r, k in zip(row.tolist(), number.tolist(), strict=True)], np.int64)
        titles, texts = _read(self.table, row, other)
        for place in range(len(self.drawing.own)):
            at = np.flatnonzero(number == -1 - place)
            texts[at] = self.drawing.named(row[at], place, seed, epoch)[1]
        label = np.where(number != 0, b"0", b"1").astype(object)
        return {"title": titles, "text": texts, "label": label}, *_each_its_own(len(positions))


class RowsWithNegatives:
    """Yields every row with its hard negatives, then the negatives it names: their titles and texts are further columns."""

    def __init__(self, drawing: Drawing):
        self.drawing = drawing
        self.table = drawing.others.table
        self.columns = ("title", "text", *negative_columns(drawing.hard + len(drawing.own)))

    @property
    def bytes_each(self) -> float:
        return self.table.row_bytes * (1 + self.drawing.hard)

    def __len__(self) -> int:
        return len(self.table)

    def where(self, position: int, seed: int, epoch: int) -> str:
        """Return `FILE:LINE` of the row."""
        return self.table.where(int(permuted(np.array([position]), len(self), seed, epoch)[0]))

    def read(self, positions: np.ndarray, seed: int, epoch: int) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
        """See `kbert.tasks.base.Examples`."""
        row = permuted(positions, len(self), seed, epoch)
        drawn = np.array([self.drawing(r, seed, epoch) for r in row.tolist()], np.int64).reshape(len(row), -1)
        rows = np.concatenate([row[:, None], drawn], 1)  # [examples, 1 + hard]
        titles, texts = (column.reshape(rows.shape) for column in _read(self.table, rows.ravel(), rows.ravel()))
        values = [part[:, i] for i in range(rows.shape[1]) for part in (titles, texts)]
        for place in range(len(self.drawing.own)):
            values += self.drawing.named(row, place, seed, epoch)
        return dict(zip(self.columns, values, strict=True)), *_each_its_own(len(positions))


def negative_columns(count: int) -> tuple[str, ...]:
    """Return the names of the columns that hold a row's negatives: a title and a text each."""
    return tuple(f"{name}_{i + 1}" for i in range(count) for name in ("negative_title", "negative"))


def _pair(titles: np.ndarray, texts: np.ndarray) -> np.ndarray:
    return (titles.astype(np.uint64) << np.uint64(32)) | texts.astype(np.uint64)


def _read(table: Table, titles: np.ndarray, texts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Read the titles of some rows and the texts of others, each row once."""
    once, place = np.unique(np.concatenate([titles, texts]), return_inverse=True)
    read = list(table.read(once).values())
    return read[0][place[: len(titles)]], read[1][place[len(titles) :]]


def _each_its_own(count: int) -> tuple[np.ndarray, np.ndarray]:
    return np.arange(count, dtype=np.int32), np.zeros(count, np.int32)
