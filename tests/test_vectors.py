"""Vector files, each read by what others read it with; the store of an unfinished run; whitening."""

import json
import logging
import struct

import numpy as np
import pyarrow.parquet
import pytest
from gensim.models import KeyedVectors
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from kbert.errors import DataError, UsageError
from kbert.vectors.formats import FORMATS, Vectors, format_of, json_lines, write
from kbert.vectors.store import Progress, VectorStore
from kbert.vectors.whitening import Whitening

NAMES = ["the", "中", "café", "##ly", "a_b", "\u3000x", "😀", '"']
VALUES = np.random.default_rng(0).normal(size=(len(NAMES), 5)).astype(np.float32)
VALUES[1] = [np.float32(1e-38), 0, -0.0, np.float32(1 / 3), np.finfo(np.float32).max]


def vectors() -> Vectors:
    entries = [(name, 9 - i) for i, name in enumerate(NAMES)]
    return Vectors(("token", "count"), "token", len(NAMES), 5, lambda: [(entries[:3], VALUES[:3]), (entries[3:], VALUES[3:])])


@pytest.mark.parametrize("form", ["word2vec", "word2vec_binary"])
def test_gensim_loads_word2vec(tmp_path, form):
    write(form, str(tmp_path / "v"), vectors())
    loaded = KeyedVectors.load_word2vec_format(str(tmp_path / "v"), binary=form == "word2vec_binary")
    assert loaded.index_to_key == NAMES and loaded.vectors.tobytes() == VALUES.tobytes()
    assert [path.name for path in tmp_path.iterdir()] == ["v"]


def test_npy_and_index(tmp_path):
    write("npy", str(tmp_path / "v.npy"), vectors())
    assert np.load(tmp_path / "v.npy").tobytes() == VALUES.tobytes()
    index = [json.loads(line) for line in (tmp_path / "v.index.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["token"] for line in index] == NAMES and index[0] == {"token": "the", "count": 9}


def test_json_lines(tmp_path):
    write("jsonl", str(tmp_path / "v.jsonl"), vectors())
    lines = [json.loads(line) for line in (tmp_path / "v.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [(line["token"], line["count"]) for line in lines] == [(name, 9 - i) for i, name in enumerate(NAMES)]
    assert np.array([line["vector"] for line in lines], np.float32).tobytes() == VALUES.tobytes()


def test_parquet(tmp_path):
    write("parquet", str(tmp_path / "v.parquet"), vectors())
    table = pyarrow.parquet.read_table(tmp_path / "v.parquet").to_pydict()
    assert table["token"] == NAMES and table["count"] == list(range(9, 1, -1))
    assert np.array(table["vector"], np.float32).tobytes() == VALUES.tobytes()


def test_projector(tmp_path):
    write("projector", str(tmp_path / "p"), vectors())
    from google.protobuf import text_format
    from tensorboard.plugins.projector import ProjectorConfig

    config = text_format.Parse((tmp_path / "p" / "projector_config.pbtxt").read_text(), ProjectorConfig())
    (embedding,) = config.embeddings
    rows = (tmp_path / "p" / embedding.tensor_path).read_text().splitlines()
    assert np.array([row.split("\t") for row in rows], np.float32).tobytes() == VALUES.tobytes()
    metadata = (tmp_path / "p" / embedding.metadata_path).read_text(encoding="utf-8").splitlines()
    assert metadata[:3] == ["token\tcount", "the\t9", "中\t8"] and len(metadata) == len(NAMES) + 1


@given(arrays(np.float32, (2, 3), elements=st.floats(width=32, allow_nan=False, allow_infinity=False)))
def test_text_keeps_every_bit(values):
    lines = json_lines(("row",), ([(1,), (2,)], values)).splitlines()
    assert np.array([json.loads(line)["vector"] for line in lines], np.float32).tobytes() == values.tobytes()


def test_no_file_is_left_of_what_is_no_number(tmp_path):
    broken = Vectors(("row",), "row", 1, 2, lambda: [([(1,)], np.array([[0, np.nan]], np.float32))])
    for form in ("jsonl", "word2vec", "projector"):
        with pytest.raises(DataError, match="values that are not finite"):
            write(form, str(tmp_path / "v"), broken)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "given_format", "has_key", "message"),
    [
        ("v", "auto", True, "the ending does not determine the format"),
        ("v.xyz", "auto", True, "--output_format=word2vec|"),
        ("-", "npy", True, "only jsonl can go to standard output"),
        ("v.vec", "auto", False, "one vector a name"),
        ("{full}", "projector", True, "is in use"),
    ],
)
def test_formats_that_cannot_be(tmp_path, name, given_format, has_key, message):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(UsageError, match=message.replace("|", r"\|")):
        format_of(name.format(full=tmp_path / "full"), given_format, has_key)


def test_formats_by_ending(tmp_path):
    found = [
        format_of(str(tmp_path / f"v{end}"), "auto", True) for end in (".vec", ".TXT", ".bin", ".npy", ".jsonl", ".parquet")
    ]
    assert found == ["word2vec", "word2vec", "word2vec_binary", "npy", "jsonl", "parquet"]
    assert format_of("-", "auto", False) == "jsonl" and format_of(str(tmp_path / "p"), "projector", False) in FORMATS
    with pytest.raises(DataError, match="its folder is missing"):
        format_of("/none/v.npy", "auto", True)


def filled(folder, overwrite=False, settings=None) -> VectorStore:
    return VectorStore(folder / "v.npy", settings or {"unit": "sentence"}, overwrite=overwrite)


def closed(store: VectorStore) -> None:
    """As a killed process leaves it."""
    store._lock.release()
    for stream in (store._vectors, store._index):
        stream.close()


def test_the_store_drops_what_was_not_committed_and_keeps_the_rest(tmp_path):
    store = filled(tmp_path)
    store.append([(1, "a"), (2, "b")], VALUES[:2], Progress(rows=2, notes={"empty": 1}))
    closed(store)
    with open(store.path / "vectors.f32", "ab") as file:
        file.write(struct.pack("<3f", 1, 2, 3))
    with open(store.path / "index.jsonl", "a") as file:
        file.write("[3, ")
    again = filled(tmp_path)
    assert (again.progress.rows, again.progress.notes) == (2, {"empty": 1})
    again.append([(3, "c")], VALUES[2:3], Progress(rows=3))
    ((entries, found),) = again.parts(5)
    assert entries == [(1, "a"), (2, "b"), (3, "c")] and found.tobytes() == VALUES[:3].tobytes()
    again.remove()
    assert not list(tmp_path.iterdir())


def test_the_store_goes_on_with_the_same_settings_only(tmp_path):
    store = filled(tmp_path)
    store.append([(1,)], VALUES[:1], Progress(rows=1))
    with pytest.raises(DataError, match="another process is writing it"):
        filled(tmp_path)
    closed(store)
    with pytest.raises(UsageError, match="unit was 'sentence', now 'token'; --overwrite starts over"):
        filled(tmp_path, settings={"unit": "token"})
    anew = filled(tmp_path, overwrite=True, settings={"unit": "token"})
    assert anew.progress.rows == 0 and list(anew.parts(5)) == []


def test_a_store_cut_short_is_named(tmp_path):
    store = filled(tmp_path)
    store.append([(1,)], VALUES[:1], Progress(rows=1))
    closed(store)
    (store.path / "vectors.f32").write_bytes(b"")
    with pytest.raises(DataError, match="vectors.f32: is shorter than progress.json says"):
        filled(tmp_path)


def test_sums_are_kept_whole(tmp_path):
    store = filled(tmp_path)
    assert not store.sums((2, 3)).any()
    for rows in (1, 2):
        store.keep_sums(np.full((2, 3), float(rows)), Progress(rows=rows))
    closed(store)
    (store.path / "sums-7.npy").write_bytes(b"cut short")  # killed before it was committed
    again = filled(tmp_path)
    assert again.progress.rows == 2 and (again.sums((2, 3)) == 2).all()
    (store.path / "sums-2.npy").write_bytes(b"damaged")
    with pytest.raises(DataError, match="sums-2.npy: damaged"):
        again.sums((2, 3))


def parts(values):
    return lambda: [values[:7], values[7:]]


def test_whitening_makes_the_covariance_the_identity(tmp_path):
    rng = np.random.default_rng(1)
    values = (rng.normal(size=(500, 6)) @ rng.normal(size=(6, 6)) + 3).astype(np.float32)
    whitening = Whitening.fit(parts(values), 6)
    found = (values - whitening.mean) @ whitening.kernel
    assert np.abs(np.cov(found.T, bias=True) - np.eye(6)).max() < 1e-3 and np.abs(found.mean(0)).max() < 1e-4
    assert np.abs(Whitening.fit(parts(values), 6, 2).kernel - whitening.kernel[:, :2]).max() == 0
    whitening.save(tmp_path / "w")
    again = Whitening.load(tmp_path / "w", 6)
    assert again.kernel.tobytes() == whitening.kernel.tobytes() and again.mean.tobytes() == whitening.mean.tobytes()


@given(st.integers(2, 12), st.integers(1, 12))
def test_whitening_of_fewer_rows_than_dimensions_has_no_nan(rows, size):
    values = np.random.default_rng(rows).normal(size=(rows, size)).astype(np.float32)
    whitening = Whitening.fit(parts(values), size)
    found = (values - whitening.mean) @ whitening.kernel
    assert np.isfinite(found).all()
    variance = np.sort(found.astype(np.float64).var(0))[::-1]
    varied = min(rows - 1, size)
    assert np.abs(variance[:varied] - 1).max() < 1e-2 and (found[:, varied:] == 0).all()


def test_whitening_says_what_it_cannot_do(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        Whitening.fit(parts(np.eye(4, 6, dtype=np.float32)), 6)
    assert "4 vectors vary in 3 directions only; the other 3 of 6 are zeros" in caplog.text
    for same in (np.ones((9, 3), np.float32), np.ones((1, 3), np.float32)):
        with pytest.raises(DataError, match="are all equal"):
            Whitening.fit(parts(same), 3)
    (tmp_path / "w").write_bytes(b"{}")
    for path, message in [("none", "no such file; --fit_whitening writes one"), ("w", "not readable as safetensors")]:
        with pytest.raises(DataError, match=message):
            Whitening.load(tmp_path / path, 3)
    Whitening(np.zeros(3, np.float32), np.eye(3, dtype=np.float32)).save(tmp_path / "w")
    with pytest.raises(DataError, match="is for vectors of 3 numbers, these have 4"):
        Whitening.load(tmp_path / "w", 4)
