"""`python -m kbert.encode` against what the encoder makes of each text alone; resumed, exported, misused."""

import io
import json
import signal
import sys
from collections import Counter

import numpy as np
import pyarrow.parquet
import pytest
import tensorflow as tf
from conftest import VOCABULARY, finetune_flags, hugging_face_tensors, reviews, wait_for, write_hugging_face, write_tsv
from gensim.models import KeyedVectors
from hypothesis import given
from hypothesis import strategies as st

from kbert import encode, finetune, serving
from kbert.checkpoints import open_checkpoint
from kbert.checkpoints.sentence_transformers import SentenceSettings, read_sentence_settings
from kbert.data.indexing import open_table
from kbert.data.table import Table
from kbert.data.tokenizer import Tokenizer
from kbert.errors import DataError, UsageError
from kbert.model.encoder import Encoder
from kbert.source import SourceConfig
from kbert.vectors import encoding
from kbert.vectors.sentences import SentenceVectors, VectorConfig, layer_numbers
from kbert.vectors.store import VectorStore
from kbert.vectors.tokens import means, occurrences
from kbert.vectors.whitening import Whitening

LONG = " ".join(["good bad film plot"] * 30)  # 120 pieces, and the tiny checkpoint has 40 positions
TEXTS = ["a good film.", "", "中文很好", "unlikely Café", "wholly unknown", LONG, "the film is not bad"]
TEXTS += [text for text, _ in reviews(30, 4)]


@pytest.fixture(scope="module")
def bert(checkpoint):
    """The tiny checkpoint: its encoder, and its tokenizer."""
    found = open_checkpoint(str(checkpoint))
    encoder = Encoder(found.encoder)
    encoder.load(found.arrays(), "checkpoint")
    tokenizer = Tokenizer(found.vocabulary, lowercase=found.text.lowercase, strip_accents=found.text.strip_accents)
    return encoder, tokenizer


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    path = tmp_path_factory.mktemp("texts") / "texts.txt"
    path.write_text("".join(text + "\n" for text in TEXTS), encoding="utf-8")
    return path


def alone(bert, text: str, length: int = 40) -> tuple[list[np.ndarray], list[int]]:
    """Hidden states of every layer, each [tokens, hidden], of one text by itself, and its ids."""
    encoder, tokenizer = bert
    packed = tokenizer.pack([tokenizer.tokenize(tf.constant([text]))], length)
    batch = {name: values.to_tensor() for name, values in packed.items()}
    states = encoder({**batch, "padding_mask": tf.ones_like(batch["token_ids"])}, layers=range(3))
    return [state.numpy()[0] for state in states], batch["token_ids"].numpy()[0].tolist()


def mean_alone(bert, text: str, special: bool, layer: int = 2) -> np.ndarray:
    states, ids = alone(bert, text)
    kept = states[layer] if special or len(ids) == 2 else states[layer][1:-1]
    return kept.mean(0)


def run(checkpoint, texts, output, *flags: str) -> int:
    return encode.main([f"--init={checkpoint}", f"--input={texts}", f"--output={output}", *flags])


def lines(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def sentence_transformers(tmp_path_factory):
    """The tiny checkpoint as a sentence-transformers directory."""
    path = write_hugging_face(tmp_path_factory.mktemp("st") / "tiny")
    kinds = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    modules = [
        {"idx": i, "name": str(i), "path": p, "type": f"sentence_transformers.models.{k}"} for i, (p, k) in enumerate(kinds)
    ]
    (path / "modules.json").write_text(json.dumps(modules))
    (path / "1_Pooling").mkdir()
    pooling = {"word_embedding_dimension": 16, "pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}
    (path / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    (path / "sentence_bert_config.json").write_text('{"max_seq_length": 24, "do_lower_case": false}')
    return path


def pooled(checkpoint, bert, pooling: tuple[str, ...], layers: tuple[int, ...], mode: str, special: bool) -> np.ndarray:
    found, (_, tokenizer) = open_checkpoint(str(checkpoint)), bert
    shape = {"encoder": found.encoder, "text": found.text, "max_length": 40, "precision": "float32"}
    config = VectorConfig(**shape, layers=layers, layer_mode=mode, pooling=pooling, special_tokens=special)
    encoder = Encoder(found.encoder)
    packed = tokenizer.pack([tokenizer.tokenize(tf.constant(TEXTS[:7]))], 40)
    batch = {name: values.to_tensor() for name, values in packed.items()}
    batch["padding_mask"] = tf.sequence_mask(packed["token_ids"].row_lengths(), dtype=tf.int32)
    model = SentenceVectors(config, tokenizer).build(encoder)
    encoder.load(found.arrays(), "checkpoint")
    return model(batch).numpy()


def test_poolings_and_layers(checkpoint, bert):
    tensors = hugging_face_tensors()
    rows = [alone(bert, text)[0] for text in TEXTS[:7]]

    def each(function) -> np.ndarray:
        return np.stack([function(states) for states in rows])

    def inner(hidden):
        return hidden[1:-1] if len(hidden) > 2 else hidden

    cases = [
        (("cls",), (2,), "concat", False, lambda s: s[2][0]),
        (("cls",), (1,), "concat", False, lambda s: s[1][0]),
        (("mean",), (2,), "concat", False, lambda s: inner(s[2]).mean(0)),
        (("mean",), (2,), "concat", True, lambda s: s[2].mean(0)),
        (("max",), (0,), "concat", False, lambda s: inner(s[0]).max(0)),
        (("mean",), (1, 2), "mean", False, lambda s: (inner(s[1]).mean(0) + inner(s[2]).mean(0)) / 2),
        (("mean",), (2, 0), "concat", True, lambda s: np.concatenate([s[2].mean(0), s[0].mean(0)])),
        (("cls", "max"), (2,), "concat", True, lambda s: np.concatenate([s[2][0], s[2].max(0)])),
        (("pooler",), (2,), "concat", False, lambda s: np.tanh(s[2][0] @ tensors["pooler.dense.weight"].T + tensors["pooler.dense.bias"])),
    ]  # fmt: skip
    for pooling, layers, mode, special, expected in cases:
        found = pooled(checkpoint, bert, pooling, layers, mode, special)
        assert np.abs(found - each(expected)).max() < 2e-5, (pooling, layers, mode, special)


def test_layer_numbers():
    assert layer_numbers(["-1"], 6) == (6,) and layer_numbers(["-2", "-1", "0"], 6) == (5, 6, 0)
    assert layer_numbers(["-7"], 6) == (0,)
    for given_layers, message in [
        (["7"], "7 is out of range; the checkpoint has layers 1 to 6"),
        (["-8"], "-8 is out of range"),
        (["x"], "'x' is not a whole number"),
        (["6", "-1"], "layer 6 is listed twice"),
        ([], "--layers is empty"),
    ]:
        with pytest.raises(UsageError, match=message):
            layer_numbers(given_layers, 6)


def test_settings_of_sentence_transformers(sentence_transformers, tmp_path):
    read = lambda path: read_sentence_settings(str(path), lowercase=True)  # noqa: E731
    assert read(sentence_transformers) == SentenceSettings(("mean",), True, 24)
    assert read(tmp_path) is None and read("a_preset") is None
    modules = json.loads((sentence_transformers / "modules.json").read_text())

    def written(kinds=3, pooling=None, **files) -> SentenceSettings | None:
        (tmp_path / "1_Pooling").mkdir(exist_ok=True)
        (tmp_path / "modules.json").write_text(json.dumps(modules[:kinds]))
        (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps(pooling or {"pooling_mode": "cls"}))
        for name, text in files.items():
            (tmp_path / f"{name}.json").write_text(text)
        return read(tmp_path)

    assert written(2) == SentenceSettings(("cls",), False, None)
    both = {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True}
    assert written(pooling=both) == SentenceSettings(("cls", "mean"), True, None)
    for pooling in ({"pooling_mode_lasttoken": True}, {"pooling_mode": "weightedmean"}, {"pooling_mode": 3}):
        with pytest.raises(
            DataError, match=r"1_Pooling/config.json: the pooling is .*; kbert supports cls, mean, max; --pooling"
        ):
            written(pooling=pooling)
    for name, text, message in [
        ("modules", "{}", "modules.json: expected a list of modules"),
        ("modules", json.dumps([{**modules[0], "type": "x.Dense"}]), "its modules are Dense; kbert reads"),
        ("modules", json.dumps([modules[0], {**modules[1], "path": "../up"}]), "is outside the directory"),
        ("sentence_bert_config", '{"max_seq_length": 0}', "max_seq_length is 0"),
        ("sentence_bert_config", "[]", "sentence_bert_config.json: expected an object"),
    ]:
        with pytest.raises(DataError, match=message):
            written(**{name: text})
    (tmp_path / "sentence_bert_config.json").write_text('{"do_lower_case": true}')
    with pytest.raises(DataError, match="do_lower_case is true for a cased checkpoint"):
        read_sentence_settings(str(tmp_path), lowercase=False)


@pytest.fixture(scope="module")
def whitened(checkpoint, texts, tmp_path_factory):
    """Normalised vectors, whitened by themselves to 8 numbers; the whitening, and a SavedModel of it all."""
    folder = tmp_path_factory.mktemp("whitened")
    flags = [f"--fit_whitening={folder / 'w.safetensors'}", "--whitening_dim=8", f"--export_dir={folder / 'saved'}"]
    assert run(checkpoint, texts, folder / "v.parquet", "--pooling=mean", "--normalize", *flags) == 0
    return folder


def test_whitening_is_fitted_on_all_vectors(whitened, bert):
    table = pyarrow.parquet.read_table(whitened / "v.parquet").to_pydict()
    found = np.array(table["vector"])
    raw = np.stack([mean_alone(bert, text, False) for text in TEXTS]).astype(np.float64)
    variance, directions = np.linalg.eigh(np.cov(raw.T, bias=True))
    expected = (raw - raw.mean(0)) @ (directions / np.sqrt(variance))[:, ::-1][:, :8]
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    expected *= np.sign((expected * found).sum(0))  # a direction's sign is left to chance
    assert table["text"] == TEXTS and np.abs(found - expected).max() < 1e-3


def test_the_saved_model_serves_the_same_vectors(whitened):
    serve = tf.saved_model.load(str(whitened / "saved" / "1")).signatures["serving_default"]
    served = serve(text=tf.constant(TEXTS))
    written = pyarrow.parquet.read_table(whitened / "v.parquet").to_pydict()["vector"]
    assert list(served) == ["vector"] and np.abs(served["vector"].numpy() - np.array(written)).max() < 1e-4
    about = json.loads((whitened / "saved" / "1" / "assets.extra" / "kbert.json").read_text())
    assert (about["pooling"], about["normalize"], about["max_length"]) == (["mean"], True, 40)


def test_standard_input_to_standard_output_by_a_stored_whitening(checkpoint, bert, whitened, monkeypatch, capsys):
    stdin = io.TextIOWrapper(io.BytesIO(b'{"body": "good film"}\n{"body": "bad"}\n'))
    monkeypatch.setattr(sys, "stdin", stdin)
    stored = whitened / "w.safetensors"
    flags = ["--format=jsonl", "--text_columns=body", "--pooling=first_last_mean", f"--whitening={stored}"]
    assert run(checkpoint, "-", "-", *flags) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["row"], line["text"]) for line in found] == [(1, "good film"), (2, "bad")]
    whitening = Whitening.load(stored, 16)
    for line in found:
        pooled = (mean_alone(bert, line["text"], False, 1) + mean_alone(bert, line["text"], False, 2)) / 2
        assert np.abs(np.array(line["vector"]) - (pooled - whitening.mean) @ whitening.kernel).max() < 1e-4


def test_tokens_of_a_long_text_each_have_one_vector(checkpoint, bert, texts, tmp_path):
    exported = f"--export_dir={tmp_path / 'saved'}"
    assert run(checkpoint, texts, tmp_path / "t.jsonl", "--unit=token", "--stride=8", exported) == 0
    found = lines(tmp_path / "t.jsonl")
    served = tf.saved_model.load(str(tmp_path / "saved" / "1")).signatures["serving_default"](text=tf.constant(TEXTS))
    served = {name: values.numpy() for name, values in served.items()}
    for row, count in enumerate(served["count"]):
        mine = [line for line in found if line["row"] == row + 1]
        assert [line["token"].encode() for line in mine] == served["piece"][row, :count].tolist()
        places = list(zip(served["start"][row, :count], served["end"][row, :count], strict=True))
        assert [(line["start"], line["end"]) for line in mine] == places
        assert not mine or np.abs(served["vector"][row, :count] - [line["vector"] for line in mine]).max() < 1e-5
        assert (served["vector"][row, count:] == 0).all() and (served["end"][row, count:] == -1).all()
    _, tokenizer = bert
    for number, text in enumerate(TEXTS, 1):
        ids, starts, ends = (values.to_list()[0] for values in tokenizer.tokenize_with_offsets(tf.constant([text])))
        mine = [line for line in found if line["row"] == number]
        expected = list(zip([VOCABULARY[i] for i in ids], starts, ends, strict=True))
        assert [(line["token"], line["start"], line["end"]) for line in mine] == expected
        if text != LONG and ids:
            assert np.abs(np.array([line["vector"] for line in mine]) - alone(bert, text)[0][2][1:-1]).max() < 1e-5
    # The long text's first window is its first 38 pieces; the first of them belong to it alone.
    first = np.array([line["vector"] for line in found if line["row"] == 6])[:20]
    assert np.abs(first - alone(bert, LONG)[0][2][1:21]).max() < 1e-5


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 3)), max_size=8), st.sampled_from(["piece", "character"]))
def test_units_have_the_pieces_that_share_a_character_with_them(steps, granularity):
    starts, ends, at = [], [], 0
    for gap, length in steps:
        starts.append(at + gap)
        ends.append(at := at + gap + length)
    text = "".join("x" if any(s <= i < e for s, e in zip(starts, ends, strict=True)) else " " for i in range(at + 1))
    places = np.array(starts, np.int64), np.array(ends, np.int64)
    found = occurrences(text, np.zeros(len(starts), bool), *places, granularity)
    vectors = np.random.default_rng(0).normal(size=(len(starts), 3)).astype(np.float32)
    spans = (
        [(i, i + 1) for i, c in enumerate(text) if c == "x"]
        if granularity == "character"
        else list(zip(starts, ends, strict=True))
    )
    assert list(zip(found.start.tolist(), found.end.tolist(), strict=True)) == spans
    owners = [[i for i in range(len(starts)) if starts[i] < e and ends[i] > s] for s, e in spans]
    assert [list(range(f, last)) for f, last in zip(found.first, found.last, strict=True)] == owners
    if owners:
        expected = np.stack([vectors[own].mean(0) for own in owners])
        assert np.abs(means(vectors, found.first, found.last) - expected).max() < 1e-6


def test_the_vocabularys_embedding_rows_are_the_checkpoints(checkpoint, texts, tmp_path, capsys):
    assert run(checkpoint, texts, tmp_path / "c.vec", "--unit=vocabulary") == 0
    table = hugging_face_tensors()["embeddings.word_embeddings.weight"]
    for binary in (False, True):
        if binary:
            flags = ["--unit=vocabulary", "--granularity=word", "--output_format=word2vec_binary", "--min_count=2"]
            assert run(checkpoint, texts, tmp_path / "w", *flags) == 0
        loaded = KeyedVectors.load_word2vec_format(str(tmp_path / ("w" if binary else "c.vec")), binary=binary)
        assert loaded.vectors.dtype == np.float32
        for word in loaded.index_to_key:
            if word in VOCABULARY:
                assert loaded[word].tobytes() == table[VOCABULARY.index(word)].tobytes()
        assert len(loaded) > 10
    counts = Counter("".join(TEXTS).replace(" ", ""))
    loaded = KeyedVectors.load_word2vec_format(str(tmp_path / "c.vec"))
    assert set(loaded.index_to_key) == set(counts) and loaded["é"].tobytes() == loaded["e"].tobytes()
    assert loaded.index_to_key[0] == counts.most_common(1)[0][0]
    assert "are not known to the vocabulary and have the vector of [UNK]" in capsys.readouterr().err


def test_contextual_vocabulary_of_segments_is_the_mean_over_occurrences(checkpoint, bert, tmp_path, monkeypatch, capsys):
    """Interrupted after its first window, and continued."""
    monkeypatch.setattr(encoding, "TOKEN_WINDOW_BYTES", 20)
    rows = ["unlikely 中文很好", "很好 film", "中文"]
    (tmp_path / "texts.csv").write_text("".join(f'{i},"{row}"\n' for i, row in enumerate(["body", *rows])), encoding="utf-8")
    program = "import re\ndef split(text):\n    return re.findall('unlike|ly|中文|很好|film| ', text)\n"
    (tmp_path / "my_words.py").write_text(program, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    flags = ["--unit=vocabulary", "--source=contextual", "--granularity=word", "--segmenter=my_words:split", "--layers=1"]

    def interrupted(store, sums, progress, keep=VectorStore.keep_sums):
        keep(store, sums, progress)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(VectorStore, "keep_sums", interrupted)
        assert run(checkpoint, tmp_path / "texts.csv", tmp_path / "v.jsonl", *flags, "--text_columns=body") == 130
    assert run(checkpoint, tmp_path / "texts.csv", tmp_path / "v.jsonl", *flags, "--text_columns=body") == 0
    assert "continuing after row 1 of 3" in capsys.readouterr().err
    found = {line["token"]: line for line in lines(tmp_path / "v.jsonl")}
    hidden = [alone(bert, row)[0][1][1:-1] for row in rows]
    expected = {
        "中文": (2, (hidden[0][3:5].mean(0) + hidden[2].mean(0)) / 2),
        "很好": (2, (hidden[0][5:7].mean(0) + hidden[1][:2].mean(0)) / 2),
        "unlike": (1, hidden[0][:2].mean(0)),
        "ly": (1, hidden[0][2]),
        "film": (1, hidden[1][2]),
    }
    assert {name: line["count"] for name, line in found.items()} == {name: count for name, (count, _) in expected.items()}
    for name, (_, vector) in expected.items():
        assert np.abs(np.array(found[name]["vector"]) - vector).max() < 1e-5
    assert not list(tmp_path.glob(".v*"))


def test_words_that_hold_a_space_are_those_of_the_text(checkpoint, bert, tmp_path, monkeypatch):
    (tmp_path / "texts.txt").write_text("good film bad\n", encoding="utf-8")
    program = "def split(text):\n    return ['good film', ' ', 'bad']\ndef broken(text):\n    return None\n"
    (tmp_path / "spaced_words.py").write_text(program, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    flags = ["--unit=vocabulary", "--granularity=word", "--segmenter=spaced_words:split"]
    assert run(checkpoint, tmp_path / "texts.txt", tmp_path / "v.jsonl", *flags) == 0
    found = {line["token"]: np.array(line["vector"], np.float32) for line in lines(tmp_path / "v.jsonl")}
    table = hugging_face_tensors()["embeddings.word_embeddings.weight"]
    pieces = [table[VOCABULARY.index(word)] for word in ("good", "film")]
    assert set(found) == {"good_film", "bad"} and np.allclose(found["good_film"], np.mean(pieces, 0), atol=1e-7)


def test_a_model_of_two_vectors_gives_its_own(checkpoint, tmp_path):
    write_tsv(
        tmp_path / "train.tsv", [("good film", "a film"), ("bad plot", "the plot"), ("dull", "un")] * 4, ("title", "text")
    )
    model = tmp_path / "model"
    flags = {"task": "match", "scorer": "dual", "epochs": 0, "batch_size": 4}
    assert finetune.main(finetune_flags(checkpoint, tmp_path, model, **flags, dev_data=tmp_path / "train.tsv")) == 0
    texts = ["a film", "the plot is " * 9]
    (tmp_path / "texts.txt").write_text("".join(text + "\n" for text in texts))
    assert run(model, tmp_path / "texts.txt", tmp_path / "v.npy") == 0
    served = serving.load(model)({"title": tf.constant(texts), "text": tf.constant(texts)})["text_vector"].numpy()
    assert np.abs(np.load(tmp_path / "v.npy") - served).max() < 1e-5


def test_long_rows_are_read_once(tmp_path, monkeypatch):
    """Twenty rows of 1 MB were read 115 times over while windows were filled."""
    (tmp_path / "long.txt").write_text("".join(f"{number} {'x' * 2000}\n" for number in range(20)))
    table = open_table(str(tmp_path / "long.txt"), SourceConfig(), ("text",), keyed_by=1)
    seen = []
    read = Table.read
    monkeypatch.setattr(Table, "read", lambda self, rows: seen.extend(rows) or read(self, rows))
    for start, size, sizes in ((0, 1000, [1] * 20), (0, 5000, [2] * 10), (7, 5000, [1] + [2] * 6), (0, 10**9, [20])):
        seen.clear()
        found = list(encoding.windows(table, start, size, "reading"))
        assert seen == list(range(start, 20)) and [len(texts) for _, texts in found] == sizes
        assert [int(text.split()[0]) for _, texts in found for text in texts] == seen
        assert [first for first, _ in found] == [start + sum(sizes[:i]) for i in range(len(sizes))]


SLOW = """
import sys, time
from kbert import encode
from kbert.vectors import encoding
from kbert.vectors.store import VectorStore
encoding.WINDOW_BYTES = 100
append = VectorStore.append
def slow(store, *arguments):
    append(store, *arguments)
    if store.progress.rows >= 8:
        time.sleep(3600)  # until it is killed
VectorStore.append = slow
sys.exit(encode.main(sys.argv[1:]))
"""


def test_sentences_are_those_of_each_text_alone_even_when_killed_on_the_way(
    sentence_transformers, bert, texts, tmp_path, monkeypatch, forks, environment, capsys
):
    """kill -9 on a process at work: the same command goes on, and gives the vectors of each text by itself.

    The directory's own settings are followed; windows and batches hold several texts; the order is the input's.
    """
    out, work = tmp_path / "v.npy", tmp_path / ".v.npy.encoding"
    flags = [f"--init={sentence_transformers}", f"--input={texts}", f"--output={out}"]
    process = forks.start(SLOW, flags, environment)
    progress = work / "progress.json"
    wait_for(lambda: progress.exists() and json.loads(progress.read_text())["rows"] >= 8, process)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL and not out.exists()
    done = json.loads((work / "progress.json").read_text())["rows"]
    before = (work / "vectors.f32").read_bytes()[: done * 16 * 4]
    assert 8 <= done < len(TEXTS)

    monkeypatch.setattr(encoding, "WINDOW_BYTES", 500)
    assert encode.main(flags) == 0
    found, expected = np.load(out), []
    assert found[:done].tobytes() == before and not list(tmp_path.glob(".*"))
    for text in TEXTS:
        mean = alone(bert, text, 24)[0][2].mean(0)
        expected.append(mean / np.linalg.norm(mean))
    assert np.abs(found - np.stack(expected)).max() < 1e-5
    assert [(line["row"], line["text"]) for line in lines(tmp_path / "v.index.jsonl")] == list(enumerate(TEXTS, 1))
    said = capsys.readouterr().err
    for sentence in (
        "mean over layers 2, [CLS] and [SEP] counted, scaled to length 1, texts of up to 24 tokens, as modules.json says",
        f"continuing after row {done} of 37",
        "1 of 37 texts have no piece, and get the vector of an empty text",
        "1 of 37 texts consist only of pieces unknown to the vocabulary",
        "1 of 37 texts fill --max_length=24 and may be cut",
    ):
        assert sentence in said


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--output=v.npy"], "--output needs --input"),
        (["--input={texts}"], "give --input and --output, or --export_dir"),
        ([], "give --input and --output, or --export_dir"),
        (["--input={texts}", "--output=v.npy", "--unit=token", "--pooling=cls"], "--pooling goes with --unit=sentence"),
        (["--input={texts}", "--output=v.npy", "--segmenter=jieba"], "--segmenter goes with --unit=token or vocabulary"),
        (["--input={texts}", "--output=v.npy", "--unit=token", "--min_count=2"], "--min_count goes with --unit=vocabulary"),
        (["--input={texts}", "--output=v.npy", "--unit=token", "--segmenter=jieba"], "--segmenter goes with --granularity=word"),
        (["--input={texts}", "--output=v.npy", "--unit=vocabulary", "--layers=1"], "--layers goes with --source=contextual"),
        (["--unit=vocabulary", "--input={texts}", "--output=v.npy", "--export_dir=s"], "--export_dir goes with --unit=sentence or"),
        (["--unit=token", "--granularity=word", "--export_dir=s"], "--export_dir goes with --granularity=piece"),
        (["--input={texts}", "--output=v.npy", "--pooling=pooler", "--layers=1"], "--layers does not go with --pooling=pooler"),
        (["--input={texts}", "--output=v.npy", "--special_tokens"], "--special_tokens goes with --pooling=mean, max"),
        (["--input={texts}", "--output=v.npy", "--whitening=a", "--fit_whitening=b"], "exclude each other"),
        (["--input={texts}", "--output=v.npy", "--whitening_dim=3"], "--whitening_dim goes with --fit_whitening"),
        (["--input={texts}", "--output=-", "--fit_whitening=b"], "needs an --output other than -"),
        (["--input={texts}", "--output=v.npy", "--text_columns=a,b"], "the model reads 1 (text)"),
        (["--input={texts}", "--output=v.npy", "--pooling=mean", "--layers=3"], "3 is out of range; the checkpoint has layers 1 to 2"),
        (["--input={texts}", "--output=v.npy", "--max_length=41"], "the checkpoint has positions for 40 tokens"),
        (["--input={texts}", "--output=v.npy", "--unit=token", "--stride=38"], "windows of 40 tokens hold 38"),
        (["--input={texts}", "--output=v.vec", "--unit=token"], "one vector a name"),
        (["--input={texts}", "--output={texts}"], "the file is that of --input="),
        (["--input={texts}", "--output=v.npy", "--fit_whitening=v.npy"], "--output and --fit_whitening are the same file"),
        (["--input={texts}", "--output=v.npy", "--fit_whitening=w", "--whitening_dim=17"], "--whitening_dim=17: the vectors have 16"),
    ],
)  # fmt: skip
def test_mistakes(flags, message, checkpoint, texts, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert encode.main([f"--init={checkpoint}", *[flag.format(texts=texts) for flag in flags]]) == 2
    assert message in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_data_that_cannot_be_encoded(checkpoint, texts, capsys, tmp_path):
    assert run(checkpoint, tmp_path / "none.txt", tmp_path / "v.npy") == 1
    assert "none.txt: no such file" in capsys.readouterr().err
    (tmp_path / "a.tsv").write_text("a\tb\n1\t2\n")
    assert run(checkpoint, tmp_path / "a.tsv", tmp_path / "v.npy") == 1
    assert "no column 'text'" in capsys.readouterr().err
    (tmp_path / "one.txt").write_text("good\n")
    assert run(checkpoint, tmp_path / "one.txt", tmp_path / "v.npy", f"--fit_whitening={tmp_path / 'w'}") == 1
    assert "are all equal" in capsys.readouterr().err
    assert run(checkpoint, tmp_path / "one.txt", tmp_path / "v.npy") == 0  # nothing stands in its way
    (tmp_path / "empty.txt").write_text("\n \n")
    assert run(checkpoint, tmp_path / "empty.txt", tmp_path / "v.vec", "--unit=vocabulary") == 1
    assert "empty.txt: no character in its texts" in capsys.readouterr().err
    bare = {name: array for name, array in hugging_face_tensors().items() if not name.startswith("pooler.")}
    without = write_hugging_face(tmp_path / "bare", bare)
    assert run(without, texts, tmp_path / "v.npy", "--pooling=pooler") == 1
    assert "has no pooler; choose cls, mean or max" in capsys.readouterr().err
