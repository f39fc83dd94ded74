"""Run kbert.encode: encode texts into a vector file, through a store that makes the run resumable.

In: a table, an encoder with its weights, and the output. Out: the file, and notes for the user.
"""

import logging
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import tensorflow as tf

from kbert.checkpoints import Arrays, Checkpoint
from kbert.data.table import Table
from kbert.data.tokenizer import Tokenizer
from kbert.errors import DataError
from kbert.files import output
from kbert.model.encoder import Encoder
from kbert.serving import Predictor
from kbert.settings import to_json
from kbert.vectors import encoding
from kbert.vectors.encoding import Segmenter
from kbert.vectors.formats import STDOUT, Part, VectorFormat, Vectors, json_lines, write
from kbert.vectors.sentences import SentenceVectors, VectorConfig
from kbert.vectors.store import Progress, VectorStore
from kbert.vectors.tokens import Granularity, TokenVectors
from kbert.vectors.vocabulary import COLUMNS, Vocabulary, sum_occurrences
from kbert.vectors.whitening import Whitening

log = logging.getLogger(__name__)

V = TypeVar("V", SentenceVectors, TokenVectors)

EMBEDDINGS = "token_embedding/embeddings"
_last: list[tuple[Any, tuple[Predictor[SentenceVectors], int]]] = []  # of `sentence_predictor`; none or one


@dataclass(frozen=True)
class Output:
    """The destination of vectors.

    Attributes:
        name: a file, or - for standard output.
        form: its format.
        overwrite: start over if an interrupted run with other settings left its work.
        settings: the input and the settings, as JSON values: an interrupted run is resumed only if they are equal.
    """

    name: str
    form: VectorFormat
    overwrite: bool
    settings: dict[str, Any]

    def store(self, table: Table, served: Any) -> VectorStore:
        """Open the run's work folder, once the settings and the table are known."""
        settings = {**self.settings, "input_crc32": table.digest, "rows": len(table), "config": to_json(served.config)}
        store = VectorStore(Path(self.name).expanduser(), settings, overwrite=self.overwrite)
        if store.progress.rows:
            log.info("continuing after row %d of %d", store.progress.rows, len(table))
        return store

    def write(self, vectors: Vectors) -> None:
        """Write the file."""
        write(self.form, self.name, vectors)


def tokenizer_of(checkpoint: Checkpoint) -> Tokenizer:
    """Create the checkpoint's tokenizer."""
    return Tokenizer(checkpoint.vocabulary, **vars(checkpoint.text))


def crc32(arrays: Arrays) -> int:
    """Return a checksum of an encoder's weights, so that a run is not resumed with others."""
    digest = 0
    for name in sorted(arrays):
        digest = zlib.crc32(np.ascontiguousarray(arrays[name]).data.cast("B"), zlib.crc32(name.encode(), digest))
    return digest


def build(served: V, arrays: Arrays, init: str) -> Predictor[V]:
    """Create a predictor of sentence or token vectors with these weights.

    Args:
        arrays: those of the encoder, and of dense layers over its vectors.

    Raises:
        DataError: the pooler is requested but the checkpoint has none.
    """
    # Nothing is trained here, so in bfloat16 the weights are stored as such: they need no casting.
    encoder = Encoder(served.config.encoder, served.config.precision)
    model = served.build(encoder)
    layers = {name: array for name, array in arrays.items() if name.startswith("projection_")}
    if not encoder.load({name: array for name, array in arrays.items() if name not in layers}, init):
        raise DataError(f"--pooling=pooler: {init} has no pooler; choose cls, mean or max")
    for weight in model.weights:
        if weight.path in layers:
            if layers[weight.path].shape != tuple(weight.shape):
                shapes = f"{layers[weight.path].shape}, expected {tuple(weight.shape)}"
                raise DataError(f"{init}: {weight.path} of its dense layers has shape {shapes}")
            weight.assign(layers[weight.path])
    return Predictor(served, model, final=True)


def sentence_predictor(
    config: VectorConfig, whitening: Whitening | None, checkpoint: Checkpoint, init: str
) -> tuple[Predictor[SentenceVectors], int]:
    """Create a predictor of sentence vectors, and the checksum of its weights.

    The last one is kept: calls of `kbert.encode` on a directory whose files have not changed load and trace it once.

    Raises:
        DataError: the pooler is requested but the checkpoint has none.
    """
    files = [(path, path.stat()) for path in sorted(Path(init).expanduser().resolve().rglob("*")) if path.is_file()]
    key = config, checkpoint.vocabulary, [(path, stat.st_mtime_ns, stat.st_size) for path, stat in files]
    if _last and _last[0][0] == key and whitening is None:
        return _last[0][1]
    arrays = checkpoint.arrays()
    served = SentenceVectors(config, tokenizer_of(checkpoint), whitening, survey=True)
    found = build(served, arrays, init), crc32(arrays)
    if files and whitening is None:
        _last[:] = [(key, found)]
    return found


def write_sentences(
    predictor: Predictor[SentenceVectors],
    table: Table,
    out: Output,
    finish: SentenceVectors,
    fit: tuple[Path, int | None] | None,
) -> tuple[Counter[str], SentenceVectors]:
    """Write a vector a row.

    Args:
        predictor: computes the vectors; pooled vectors if a whitening is to be fitted.
        finish: the final processing of vectors, once a whitening is fitted.
        fit: the file to save the whitening in, and the number of directions to keep.

    Returns:
        Notes for the user, and `finish` including the whitening.
    """
    size, notes = predictor.model.output.shape[-1], Counter[str]()
    if predictor.task.whitening is not None:
        size = predictor.task.whitening.kernel.shape[1]
    columns, key = encoding.SENTENCE_COLUMNS, "row"
    if out.name == STDOUT:
        _stream(columns, (part for part, _ in encoding.sentences(predictor, table, 0, notes)))
        return notes, finish
    store = out.store(table, predictor.task)
    notes.update(store.progress.notes)
    _fill(store, encoding.sentences(predictor, table, store.progress.rows, notes), notes)
    if fit is None:
        out.write(Vectors(columns, key, len(table), size, lambda: store.parts(size)))
    else:
        path, kept = fit
        try:
            whitening = Whitening.fit(lambda: (vectors for _, vectors in store.parts(size)), size, kept)
        except DataError:
            store.remove()  # nothing left to resume
            raise
        whitening.save(path)
        finish = SentenceVectors(finish.config, finish.tokenizer, whitening)

        def finished() -> Iterator[Part]:
            for entries, vectors in store.parts(size):
                yield entries, finish.finish(tf.constant(vectors)).numpy()

        out.write(Vectors(columns, key, len(table), whitening.kernel.shape[1], finished))
    store.remove()
    return notes, finish


def write_tokens(
    predictor: Predictor[TokenVectors], table: Table, out: Output, granularity: Granularity, segmenter: Segmenter | None
) -> Counter[str]:
    """Write a vector a token; return notes for the user."""
    size, notes, columns = predictor.model.output.shape[-1], Counter[str](), encoding.TOKEN_COLUMNS
    if out.name == STDOUT:
        parts = encoding.tokens(predictor, table, 0, notes, granularity, segmenter)
        _stream(columns, (part for part, _ in parts))
        return notes
    store = out.store(table, predictor.task)
    notes.update(store.progress.notes)
    _fill(store, encoding.tokens(predictor, table, store.progress.rows, notes, granularity, segmenter), notes)
    out.write(Vectors(columns, None, store.progress.vectors, size, lambda: store.parts(size)))
    store.remove()
    return notes


def write_vocabulary(
    predictor: Predictor[TokenVectors] | None,
    embeddings: np.ndarray,
    tokenizer: Tokenizer,
    table: Table,
    out: Output,
    granularity: Granularity,
    segmenter: Segmenter | None,
    min_count: int,
) -> Vocabulary:
    """Write a vector for each distinct token: rows of `embeddings`, or, with a predictor, means over occurrences."""
    vocabulary = Vocabulary(tokenizer, table, granularity, segmenter, min_count)
    if predictor is None:
        vectors = Vectors(COLUMNS, "token", len(vocabulary), embeddings.shape[1], lambda: vocabulary.embedded(embeddings))
        out.write(vectors)
        return vocabulary
    size = predictor.model.output.shape[-1]
    store = None if out.name == STDOUT else out.store(table, predictor.task)
    sums = sum_occurrences(predictor, table, vocabulary, granularity, segmenter, size, store)
    out.write(Vectors(COLUMNS, "token", len(vocabulary), size, lambda: vocabulary.contextual(sums)))
    if store:
        store.remove()
    return vocabulary


def _fill(store: VectorStore, parts: Iterable[tuple[Part, int]], notes: Counter[str]) -> None:
    for (entries, vectors), rows in parts:
        store.append(entries, vectors, Progress(rows=rows, notes=dict(notes)))


def _stream(columns: tuple[str, ...], parts: Iterable[Part]) -> None:
    with output(STDOUT) as file:
        for part in parts:
            file.write(json_lines(columns, part))
