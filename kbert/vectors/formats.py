"""Write vector files: word2vec (text and binary), NumPy, JSON lines, Parquet, and a folder for TensorBoard's projector.

In: vectors in parts, each with index entries (a row's number and text, a word and its count, ...). Out: a
file, written atomically. All formats keep float32 exactly; text uses the fewest digits that do.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from kbert.errors import DataError, UsageError
from kbert.files import check_output, output, whole, whole_binary, whole_directory
from kbert.progress import Progress

VectorFormat = Literal["word2vec", "word2vec_binary", "npy", "jsonl", "parquet", "projector"]
ENDINGS: dict[str, VectorFormat] = {
    ".vec": "word2vec",
    ".txt": "word2vec",
    ".bin": "word2vec_binary",
    ".npy": "npy",
    ".jsonl": "jsonl",
    ".parquet": "parquet",
}
FORMATS: tuple[str, ...] = get_args(VectorFormat)
STDOUT = "-"

Part = tuple[Sequence[tuple[Any, ...]], np.ndarray]  # index entries, and vectors, float32 [vectors, size]


@dataclass(frozen=True)
class Vectors:
    """Vectors to write.

    Attributes:
        columns: names of the columns of index entries.
        key: the column that names a vector in word2vec's formats, where names must be unique; None if there is none.
        count: number of vectors.
        size: size of each vector.
        parts: returns them in order, from the start at each call.
    """

    columns: tuple[str, ...]
    key: str | None
    count: int
    size: int
    parts: Callable[[], Iterable[Part]]

    def named(self) -> Iterator[tuple[str, np.ndarray]]:
        """Yield each vector with its name."""
        assert self.key is not None
        at = self.columns.index(self.key)
        for entries, vectors in self.shown():
            for entry, vector in zip(entries, vectors, strict=True):
                yield str(entry[at]), vector

    def shown(self) -> Iterator[Part]:
        """Yield the parts, under a progress bar."""
        with Progress(self.count, desc="writing", unit="vector") as bar:
            for entries, vectors in self.parts():
                if not np.isfinite(vectors).all():
                    raise DataError("a vector contains values that are not finite; are the checkpoint's weights damaged?")
                yield entries, vectors
                bar.update(len(vectors))


def format_of(name: str, given: str, has_key: bool) -> VectorFormat:
    """Determine the format of an output from `--output_format` or its ending.

    Raises:
        UsageError: neither determines the format, or it cannot hold the requested vectors.
        DataError: the output cannot be written.
    """
    found = given if given != "auto" else "jsonl" if name == STDOUT else ENDINGS.get(Path(name).suffix.lower(), "")
    if not found:
        raise UsageError(
            f"--output={name}: the ending does not determine the format ({', '.join(ENDINGS)}); "
            f"add --output_format={'|'.join(FORMATS)}"
        )
    if name == STDOUT and found != "jsonl":
        raise UsageError(f"--output_format={found}: only jsonl can go to standard output")
    if found.startswith("word2vec") and not has_key:
        raise UsageError(f"--output_format={found}: holds one vector a name, and tokens repeat; use npy, jsonl or parquet")
    if found == "projector":
        path = Path(name).expanduser()
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise UsageError(f"--output={name}: is in use; the projector's files go to an empty or a new directory")
    elif name != STDOUT:
        check_output("--output", name, {})
    return found  # type: ignore[return-value]


def write(form: VectorFormat, name: str, vectors: Vectors) -> None:
    """Write a vector file.

    Raises:
        DataError: it cannot be written.
    """
    writers: dict[VectorFormat, Callable[[str, Vectors], None]] = {
        "word2vec": _word2vec,
        "word2vec_binary": _word2vec_binary,
        "npy": _npy,
        "jsonl": _jsonl,
        "parquet": _parquet,
        "projector": _projector,
    }
    writers[form](name, vectors)


def json_lines(columns: Sequence[str], part: Part) -> str:
    """Format a part as JSON lines."""
    entries, vectors = part
    lines = []
    for entry, numbers in zip(entries, _shortest(vectors), strict=True):
        head = json.dumps(dict(zip(columns, entry, strict=True)), ensure_ascii=False)
        lines.append(f'{head[:-1]}, "vector": [{", ".join(numbers)}]}}\n')
    return "".join(lines)


def _shortest(vectors: np.ndarray) -> list[list[str]]:
    """Format numbers in the fewest digits that read back as the same float32."""
    if not np.isfinite(vectors).all():
        raise DataError("a vector contains values that are not finite; are the checkpoint's weights damaged?")
    found: list[list[str]] = vectors.astype("U").tolist()
    return found


def _word2vec(name: str, vectors: Vectors) -> None:
    with whole(Path(name)) as file:
        file.write(f"{vectors.count} {vectors.size}\n")
        for key, vector in vectors.named():
            file.write(f"{key} {' '.join(_shortest(vector[None])[0])}\n")


def _word2vec_binary(name: str, vectors: Vectors) -> None:
    with whole_binary(Path(name)) as file:
        file.write(f"{vectors.count} {vectors.size}\n".encode())
        for key, vector in vectors.named():
            # word2vec.c writes a line end here; readers skip it.
            file.write(key.encode() + b" " + vector.astype("<f4").tobytes() + b"\n")


def index_of(name: str) -> Path:
    """Return the index file that accompanies a .npy file."""
    return Path(name).with_suffix(".index.jsonl")


def _npy(name: str, vectors: Vectors) -> None:
    path = Path(name)
    header = {"descr": "<f4", "fortran_order": False, "shape": (vectors.count, vectors.size)}
    with whole(index_of(name)) as index, whole_binary(path) as file:
        np.lib.format.write_array_header_1_0(file, header)
        for entries, values in vectors.shown():
            file.write(values.astype("<f4").tobytes())
            index.writelines(
                json.dumps(dict(zip(vectors.columns, entry, strict=True)), ensure_ascii=False) + "\n" for entry in entries
            )


def _jsonl(name: str, vectors: Vectors) -> None:
    with output(name) as file:
        for part in vectors.shown():
            file.write(json_lines(vectors.columns, part))


def _parquet(name: str, vectors: Vectors) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = {name: pa.string() if name in ("text", "token") else pa.int64() for name in vectors.columns}
    schema = pa.schema([*kinds.items(), ("vector", pa.list_(pa.float32(), vectors.size))])
    with whole_binary(Path(name)) as file, pq.ParquetWriter(file, schema) as writer:
        for entries, values in vectors.shown():
            columns = [pa.array(column, kind) for column, kind in zip(zip(*entries, strict=True), kinds.values(), strict=True)]
            flat = pa.array(np.ascontiguousarray(values).reshape(-1))
            columns.append(pa.FixedSizeListArray.from_arrays(flat, vectors.size))
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))


def _projector(name: str, vectors: Vectors) -> None:
    """Write files for both `tensorboard --logdir` and projector.tensorflow.org."""
    with whole_directory(Path(name)) as folder:
        with (
            open(folder / "vectors.tsv", "w", encoding="utf-8") as tensor,
            open(folder / "metadata.tsv", "w", encoding="utf-8") as metadata,
        ):
            metadata.write("\t".join(vectors.columns) + "\n")
            for entries, values in vectors.shown():
                tensor.writelines("\t".join(numbers) + "\n" for numbers in _shortest(values))
                metadata.writelines("\t".join(" ".join(str(value).split()) for value in entry) + "\n" for entry in entries)
        config = 'embeddings {\n  tensor_name: "kbert"\n  tensor_path: "vectors.tsv"\n  metadata_path: "metadata.tsv"\n}\n'
        (folder / "projector_config.pbtxt").write_text(config, encoding="utf-8")
