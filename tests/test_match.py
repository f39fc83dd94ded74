"""Matching: inputs, targets, losses and answers of the task; models from the command line to a fresh process."""

import json
import re
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import VOCABULARY, write_tsv

from kbert import ask, evaluate, export, finetune, predict
from kbert.config import EncoderConfig, ModelConfig, TextConfig
from kbert.data.indexing import open_table
from kbert.data.tokenizer import Tokenizer
from kbert.errors import UsageError
from kbert.model.encoder import Encoder
from kbert.serving import Predictor
from kbert.settings import to_json
from kbert.source import SourceConfig
from kbert.tasks.classify.task import Classify
from kbert.tasks.match import contrastive
from kbert.tasks.match.audit import MatchAudit
from kbert.tasks.match.options import MatchOptions
from kbert.tasks.match.task import Match
from kbert.train import batches as pipeline

TOKENIZER = Tokenizer(VOCABULARY, lowercase=True, strip_accents=True)
SHAPE = EncoderConfig(vocabulary_size=len(VOCABULARY), num_layers=1, num_heads=2, hidden_dim=8, intermediate_dim=8, dropout=0.0)


def task(labels=(), max_length=12, **options) -> Match:
    settings = {"max_title_length": 3, "stride": 2, **options}
    config = ModelConfig(
        task="match",
        fields=("title", "text"),
        labels=labels,
        options=to_json(MatchOptions(**settings)),
        encoder=SHAPE,
        text=TextConfig(lowercase=True, strip_accents=True),
        max_length=max_length,
    )
    return Match(config, TOKENIZER)


def strings(**columns):
    return {name: tf.constant(values, tf.string) for name, values in columns.items()}


def featurised(task, raw):
    encoded = task.encode(raw)
    return encoded, task.supervise(raw, encoded)


def pieces(encoded):
    return [" ".join(VOCABULARY[i] for i in row) for row in encoded["token_ids"].to_list()]


RAW = strings(title=["film", "plot"], text=["good " * 3 + "bad the fine dull very a and", "x"])


def test_cross_reads_both_together():
    encoded, _ = featurised(task(scorer="cross"), RAW)
    assert pieces(encoded)[1] == "[CLS] plot [SEP] x [SEP]" and len(encoded["token_ids"][0]) == 12
    assert encoded["segment_ids"][1].numpy().tolist() == [0, 0, 0, 1, 1] and encoded["row"].numpy().tolist() == [0, 1]
    encoded, _ = featurised(task(scorer="cross", long_text="head_tail"), RAW)
    assert pieces(encoded)[0] == "[CLS] film [SEP] good good fine dull very a and [SEP]".replace("fine", "the fine")
    encoded, _ = featurised(task(scorer="cross", long_text="max"), RAW)
    assert encoded["row"].numpy().tolist() == [0, 0, 1]
    assert pieces(encoded)[0] == "[CLS] film [SEP] good good good bad the fine dull very [SEP]"
    assert pieces(encoded)[1] == "[CLS] film [SEP] good bad the fine dull very a and [SEP]"


def test_dual_reads_each_column_by_itself_and_keeps_a_row_together():
    encoded, known = featurised(task(scorer="dual", long_text="mean", max_length=9), RAW)
    assert encoded["row"].numpy().tolist() == [0, 0, 0, 1, 1] and encoded["part"].numpy().tolist() == [0, 1, 1, 0, 1]
    assert pieces(encoded)[0] == "[CLS] film [SEP]" and pieces(encoded)[4] == "[CLS] x [SEP]"
    assert [known[name].numpy().tolist() for name in ("row", "part")] == [[0, 0, 0, 1, 1], [0, 1, 1, 0, 1]]
    alone = task(scorer="dual").encode({"text": RAW["text"]})
    assert alone["row"].numpy().tolist() == [0, 1] and alone["part"].numpy().tolist() == [0, 0]


def test_equal_titles_and_texts_share_their_numbers():
    raw = strings(
        title=["a", "the", "a"], text=["x", "good", "fine"],
        negative_title_1=["the", "film", "film"], negative_1=["dull", "x", "plot"],
    )  # fmt: skip
    _, known = featurised(task(scorer="dual", hard_negatives=1), raw)
    title, text = (known[name].numpy().reshape(3, 3) for name in ("title", "text"))  # [rows, title and text and negative]
    assert (title[:, 0] == title[:, 1]).all() and (text[:, 0] == text[:, 1]).all()
    assert title[0, 0] == title[2, 0] != title[1, 0] and title[0, 2] == title[1, 0] and title[1, 2] == title[2, 2]
    assert text[1, 2] == text[0, 0] and len(set(text[:, 1])) == 3


def outputs(known, hidden=4, seed=0):
    return tf.constant(np.random.default_rng(seed).normal(size=(len(known["row"]), hidden)), tf.float32)


def test_the_in_batch_loss_masks_duplicates_and_joins_windows():
    raw = strings(title=["a", "the", "a"], text=["x", "good " * 12, "x"])
    rows = task(scorer="dual", long_text="max", max_length=9, temperature=0.1)
    encoded, known = featurised(rows, raw)
    vectors = outputs(known)
    row, part = encoded["row"].numpy(), encoded["part"].numpy()
    joined = {(r, p): vectors.numpy()[(row == r) & (part == p)].max(0) for r in range(3) for p in range(2)}
    assert (row == 1).sum() == 3  # a title and two windows
    titles, texts = (np.stack([joined[r, p] / np.linalg.norm(joined[r, p]) for r in range(3)]) for p in range(2))
    clash = np.array([[1, 0, 1], [0, 1, 0], [1, 0, 1]], bool)
    expected = contrastive.in_batch(titles, texts, clash, 0.1)
    found = rows.losses(known, vectors)
    assert found.shape == known["row"].shape and np.allclose(found, expected, rtol=1e-5)


def test_a_text_that_stands_with_the_title_in_another_row_is_no_negative():
    raw = strings(title=["film", "plot", "film"], text=["good", "bad", "bad"])
    rows = task(scorer="dual", temperature=0.1)
    known = featurised(rows, raw)[1]
    vectors = outputs(known)
    titles, texts = (vectors[part::2] / np.linalg.norm(vectors[part::2], axis=1, keepdims=True) for part in range(2))
    expected = contrastive.in_batch(titles, texts, np.array([[1, 1, 1], [0, 1, 1], [1, 1, 1]], bool), 0.1)
    assert np.allclose(rows.losses(known, vectors), expected, rtol=1e-5)


@pytest.mark.parametrize("scorer", ["cross", "dual"])
def test_grades_are_learnt_and_measured_as_such(checkpoint, tmp_path, scorer):
    """From 0 to 1 without being labels, and of which dev has the ends alone."""
    rng = np.random.default_rng(1)
    grades = ["0", "0.4", "1.0"]
    rated = [(" ".join(rng.choice(WORDS, 2)), " ".join(rng.choice(WORDS, 3)), grades[i % 3]) for i in range(48)]
    write_tsv(tmp_path / "train.tsv", rated, ("headline", "body", "like"))
    write_tsv(tmp_path / "dev.tsv", [row for row in rated if row[2] != "0.4"], ("headline", "body", "like"))
    write_tsv(tmp_path / "test.tsv", rated, ("headline", "body", "like"))
    more = {"scorer": scorer, "label_column": "like", "epochs": 1}
    assert finetune.main(flags(checkpoint, tmp_path, tmp_path / "model", **more)) == 0
    dev = json.loads((tmp_path / "model" / "metrics.json").read_text())["dev"]
    assert dev["kind"] == "grades" and set(dev) >= {"pearson", "spearman"}
    assert evaluate.main([f"--model_dir={tmp_path / 'model'}", f"--data={tmp_path / 'test.tsv'}"]) == 0


@pytest.mark.parametrize(
    ("written", "more", "code", "said"),
    [
        ("1\n", {"label_column": "same"}, 1, "--labels: one label only (1)"),
        ("0\n1\n", {}, 2, "--labels: no label column is read; name it in --label_column"),
        (None, {"freeze_layers": 2, "scorer": "dual"}, 2, "--freeze_layers=2: nothing is left to train"),
        (None, {"negatives": 3, "scorer": "dual"}, 2, "--negatives=3: --scorer=dual takes a batch's other texts; none are drawn"),
        (None, {"gradient_cache": 3}, 2, "--gradient_cache=3: it is for --scorer=dual"),
        (None, {"negatives": 3, "label_column": "same"}, 2, "--negatives=3: the rows are labelled; none are drawn"),
    ],
)  # fmt: skip
def test_what_has_no_effect_or_no_sense_is_said(checkpoint, tmp_path, capfd, written, more, code, said):
    rows = [(title, text, str(i % 2)) for i, (title, text) in enumerate(pairs(30, 3))]
    for name in ("train", "dev"):
        write_tsv(tmp_path / f"{name}.tsv", rows, ("headline", "body", "same"))
    if written is not None:
        (tmp_path / "labels.txt").write_text(written)
        more = {**more, "labels": tmp_path / "labels.txt"}
    assert finetune.main(flags(checkpoint, tmp_path, tmp_path / "model", **more)) == code
    assert said in capfd.readouterr().err


def test_a_label_that_is_not_read_is_said(tmp_path, caplog):
    path = write_tsv(tmp_path / "a.tsv", [("a", "b", "0")], ("title", "text", "label"))
    lines = tmp_path / "a.jsonl"
    lines.write_text(json.dumps({"title": "a", "text": "b", "other": "c", "label": 0}) + "\n")
    for column, said in (("", True), ("label", False)):
        source = SourceConfig(text_columns=("title", "text"), label_column=column)
        for name in (path, lines):
            caplog.clear()
            open_table(str(name), source, Match.columns(source), keyed_by=2, usual=Match.usual)
            assert (f"{name}: its column 'label' is not read; --label_column=label reads it" in caplog.text) == said
    pair = SourceConfig(text_columns=("title", "other"), label_column="label")
    open_table(str(lines), pair, Classify.columns(pair), keyed_by=2, usual=Classify.usual)
    assert "its column 'text' is not read; --text_columns=text reads it" in caplog.text
    caplog.clear()
    open_table(str(lines), source, ("title", "text"), keyed_by=2)  # as kbert.predict reads it
    assert not caplog.text


def test_labelled_losses():
    raw = strings(title=["a", "the"], text=["x", "good"], label=["0", "3"])
    known = featurised(task(("0", "1", "3"), scorer="dual"), raw)[1]
    assert known["label"].numpy().tolist() == [0, 0, 1, 1]
    vectors = outputs(known)
    unit = vectors.numpy() / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = (unit[::2] * unit[1::2]).sum(1)
    found = task(("0", "1", "3"), scorer="dual").losses(known, vectors)
    assert np.allclose(found, np.mean((cosines - [0, 1]) ** 2), rtol=1e-4)
    binary = task(("0", "1"), scorer="dual", loss="contrastive", margin=0.7)
    assert np.allclose(binary.losses(known, vectors), contrastive.contrastive(cosines, np.float32([0, 1]), 0.7), rtol=1e-4)
    cross = task(("0", "1", "3"), scorer="cross")
    known = featurised(cross, raw)[1]
    logits = np.array([[0.5], [2.0]], np.float32)
    expected = np.mean(np.log1p(np.exp(logits[:, 0] * [1, -1])))
    assert np.allclose(cross.losses(known, logits), expected, rtol=1e-5)
    squared = task(("1.0", "5.0"), scorer="cross", loss="squared_error")
    raw["label"] = tf.constant(["2", "5.0"])
    known = featurised(squared, raw)[1]
    assert np.allclose(squared.losses(known, logits), np.mean([0.25**2, 1.0]), rtol=1e-5)
    encoded = {"row": tf.range(2), "part": tf.zeros(2, tf.int32)}
    assert np.allclose(squared.decode(tf.constant(logits), encoded, raw)["score"], [3.0, 9.0])
    graded = cross.decode(tf.constant(logits), encoded, raw)
    assert np.allclose(graded["score"], 3 / (1 + np.exp(-logits[:, 0])), rtol=1e-5) and "match" not in graded
    decided = task(("0", "1"), scorer="cross").decode(tf.constant([[-1.0], [1.0]]), encoded, raw)
    assert decided["match"].numpy().tolist() == [False, True]


@pytest.mark.parametrize(
    ("labels", "options", "said"),
    [
        ((), {"scorer": "cross", "loss": "in_batch"}, "--loss=in_batch: --scorer=cross on rows without labels has cross_entropy and squared_error"),
        (("0", "1"), {"scorer": "dual", "loss": "in_batch"}, "on labelled rows has cosine and contrastive"),
        (("0", "5"), {"scorer": "dual", "loss": "contrastive"}, "needs labels 0 and 1, found 0, 5"),
        (("0", "1"), {"hard_negatives": 2}, "--hard_negatives=2: the rows are labelled"),
        ((), {"scorer": "cross", "negatives": 0}, "--negatives=0: --scorer=cross"),
        ((), {"scorer": "cross", "long_text": "max", "stride": 6}, "leaves 6 tokens of text beside a title of --max_title_length=3; --stride=6"),
        ((), {"scorer": "dual", "long_text": "mean", "stride": 10}, "leaves 10 tokens of text; --stride=10"),
        ((), {"scorer": "cross", "long_text": "head_tail", "max_title_length": 9}, "leaves 0 tokens of text .* two or more"),
    ],
)  # fmt: skip
def test_options_that_do_not_go_together_are_refused(labels, options, said):
    with pytest.raises(UsageError, match=said):
        task(labels, **options)


def test_no_gold_among_labels_is_named():
    audit = MatchAudit("f", None)
    for label in ("1", "0", "-1", "1", "-1"):
        audit(("a", "b", label))
    assert "f: 2 rows have the label -1 beside 0 and 1, so labels are read as grades" in audit.check_learnable()[0]
    with pytest.raises(ValueError, match="'-1' is not among the model's labels: 0, 1; -1 may mean a missing label"):
        MatchAudit("f", ("0", "1"))(("a", "b", "-1"))


def test_labels_are_grades_or_a_range():
    def found(values, allowed=None):
        audit = MatchAudit("f", allowed)
        for value in values:
            audit(("a", "b", value))
        audit.finish()
        return audit.labels

    assert found(["1", "0", "1.0"]) == ("0", "1") and found(["3", "0", "1"]) == ("0", "1", "3")
    assert found(["0.5", "0", "4.8"]) == ("0.0", "4.8") and found(["2", "9"], ("3", "0.0")) == ("0.0", "3")
    assert found(["0.5", "1", "0.0"], ("0.0", "1.0")) == ("0.0", "1.0") and found(["1", "0"], ("1", "0")) == ("0", "1")
    assert found([str(i) for i in range(99)]) == ("0.0", "98.0")
    assert MatchAudit("f", None).labels == ()
    with pytest.raises(ValueError, match="label 'yes' is not a number; expected 0 and 1"):
        found(["yes"])
    with pytest.raises(ValueError, match="label 'nan' is not a number"):
        found(["nan"])
    with pytest.raises(ValueError, match="label '2' is not among the model's labels: 0, 1"):
        found(["0", "2"], ("0", "1"))


@pytest.mark.parametrize(("scorer", "pooling", "long_text"), [("cross", "pooler", "max"), ("dual", "mean", "mean")])
def test_a_row_does_not_depend_on_its_batch(scorer, pooling, long_text):
    keras.utils.set_random_seed(1)
    rows = task(scorer=scorer, pooling=pooling, long_text=long_text)
    predictor = Predictor(rows, rows.build(Encoder(SHAPE)).served)
    raw = strings(title=["film", "good plot", ""], text=["good " * 30, "x", "中文 very"])
    together = {name: value.numpy() for name, value in predictor(raw).items()}
    for i in range(3):
        alone = predictor({name: value[i : i + 1] for name, value in raw.items()})
        for name, value in together.items():
            assert np.allclose(alone[name][0], value[i], atol=1e-5)
    if scorer == "dual":
        assert np.allclose(np.linalg.norm(together["text_vector"], axis=1), 1, atol=1e-5)
        assert np.allclose((together["title_vector"] * together["text_vector"]).sum(1), together["score"], atol=1e-5)
    assert predictor({name: value[:0] for name, value in raw.items()})["score"].shape == (0,)


WORDS = ["good", "bad", "film", "fine", "dull", "plot", "cafe", "is", "not", "very", "中", "文", "很", "好", "坏", "电", "影"]


def pairs(count, seed):
    """Titles of three words and texts that hold them among others; every tenth title stands twice."""
    rng = np.random.default_rng(seed)
    out = []
    for i in range(count):
        title = list(rng.permutation(WORDS)[:3]) if i % 10 else out[-1][0].split() if out else ["good", "bad", "film"]
        words = [*title, *rng.choice(["a", "the", "and", "un"], int(rng.integers(1, 6)))]
        out.append((" ".join(title), " ".join(rng.permutation(words))))
    return out


@pytest.fixture(scope="module")
def matched(tmp_path_factory):
    """A folder with train.tsv and dev.tsv of pairs under names of their own."""
    folder = tmp_path_factory.mktemp("pairs")
    for name, rows in (("train", pairs(240, 0)), ("dev", pairs(60, 1))):
        write_tsv(folder / f"{name}.tsv", rows, ("headline", "body"))
    return folder


def flags(checkpoint, folder, model, **more):
    settings = {
        "task": "match",
        "init": checkpoint,
        "train_data": folder / "train.tsv",
        "dev_data": folder / "dev.tsv",
        "text_columns": "headline,body",
        "model_dir": model,
        "max_length": 16,
        "batch_size": 24,
        "learning_rate": 0.01,
        **more,
    }
    return [f"--{name}={value}" for name, value in settings.items()]


def metrics(command, path):
    assert command == 0
    return json.loads(path.read_text())


def test_dual_from_pairs_to_an_export(checkpoint, matched, tmp_path, capfd, monkeypatch):
    dual = {"scorer": "dual", "hard_negatives": 1, "gradient_cache": 20, "seed": 1}
    before, after = tmp_path / "before", tmp_path / "after"
    assert finetune.main(flags(checkpoint, matched, before, **dual, epochs=0)) == 0
    assert finetune.main(flags(checkpoint, matched, after, **dual, epochs=4)) == 0
    shown = capfd.readouterr()
    assert "recall_at_1" in shown.out and "each among all" in shown.out and "different titles" in shown.err
    untrained, trained = (json.loads((model / "metrics.json").read_text())["dev"] for model in (before, after))
    assert untrained["kind"] == "retrieval" and untrained["mrr"] + 0.1 < trained["mrr"]
    assert trained["titles"] < 60 and trained["texts"] == len({text for _, text in pairs(60, 1)})

    dev = matched / "dev.tsv"
    answers = tmp_path / "answers.jsonl"
    assert predict.main([f"--model_dir={after}", f"--input={dev}", f"--output={answers}"]) == 0
    rows = [json.loads(line) for line in answers.read_text(encoding="utf-8").splitlines()]
    assert len(rows) == 60 and rows[0].keys() == {"row", "title", "text", "score"}

    assert export.main([f"--model_dir={after}", f"--export_dir={tmp_path / 'served'}"]) == 0
    of = tf.saved_model.load(str(tmp_path / "served" / "1")).signatures
    assert set(of) == {"serving_default", "score", "encode", "examples", "tokens"}
    columns = {name: tf.constant([row[name] for row in rows]) for name in ("title", "text")}
    score = of["score"](**columns)
    assert set(score) == {"score"} and (score["score"].numpy() == of["serving_default"](**columns)["score"].numpy()).all()
    titles, texts = (of["encode"](text=columns[name])["vector"].numpy() for name in ("title", "text"))
    assert np.allclose((titles * texts).sum(1), score["score"], atol=1e-5)
    assert np.allclose(score["score"], [row["score"] for row in rows], atol=1e-5)

    def asked(*arguments):
        monkeypatch.setattr(sys, "argv", ["ask", str(tmp_path / "served"), *arguments])
        code = ask.main()
        shown = capfd.readouterr()
        return json.loads(shown.out.splitlines()[-1]) if code == 0 else (code, shown.err.splitlines()[-1])

    pair = "\t".join(rows[0][name] for name in ("title", "text"))
    assert asked(pair)["score"] == pytest.approx(rows[0]["score"], abs=1e-5), "the title comes first"
    assert len(asked("--signature=encode", rows[0]["text"])["vector"]) > 1
    assert asked("--signature=other", "x") == (
        2,
        "python -m kbert.ask: --signature=other: the model has encode, examples, score, serving_default, tokens",
    )


def test_cross_learns_labels_and_is_measured_on_drawn_pairs_too(checkpoint, tmp_path, capfd):
    rng = np.random.default_rng(0)
    rated = []
    for i in range(192):
        words = [*rng.choice(["a", "the", "film", "plot", "and"], int(rng.integers(1, 20))), "good" if i % 2 else "dull"]
        rated.append((f"{rng.choice(WORDS)} {rng.choice(WORDS)}", " ".join(rng.permutation(words)), str(i % 2)))
    write_tsv(tmp_path / "train.tsv", rated, ("headline", "body", "same"))
    write_tsv(tmp_path / "dev.tsv", rated[:40], ("headline", "body", "same"))
    model, out = tmp_path / "model", tmp_path / "out.json"
    cross = {"scorer": "cross", "label_column": "same", "long_text": "max", "max_title_length": 5, "stride": 2}
    assert finetune.main(flags(checkpoint, tmp_path, model, **cross, epochs=14, learning_rate=0.01)) == 0
    dev = json.loads((model / "metrics.json").read_text())["dev"]
    assert dev["kind"] == "labels" and dev["rows"] == 40 and dev["threshold"] == 0.5
    assert dev["accuracy"] > 0.75 and dev["roc_auc"] > 0.75
    assert re.search(r"pooler +272  trained", capfd.readouterr().out)
    again = metrics(evaluate.main([f"--model_dir={model}", f"--data={tmp_path / 'dev.tsv'}", f"--metrics_out={out}"]), out)
    assert again == {**dev, "roc_auc": pytest.approx(dev["roc_auc"])}
    arguments = [f"--model_dir={model}", f"--data={tmp_path / 'dev.tsv'}", "--label_column=", f"--metrics_out={out}"]
    assert metrics(evaluate.main(arguments), out)["rows"] == 80  # every title with its own text and a drawn one
    assert predict.main([f"--model_dir={model}", "--text=film", "--text_b=the plot is good and good"]) == 0
    answer = json.loads(capfd.readouterr().out.splitlines()[-1])
    assert answer["match"] is (answer["score"] >= 0.5)


def test_batches_of_a_cross_encoder_hold_drawn_and_mined_negatives(matched):
    source = SourceConfig(text_columns=("headline", "body"), label_column="")
    table = open_table(str(matched / "train.tsv"), source, source.text_columns, keyed_by=2)
    rows = task(scorer="cross", hard_negatives=1, mining="model", long_text="max")
    examples = pipeline.training_examples(rows, table, 0, rows.build(Encoder(SHAPE)).model)
    batches = pipeline.TableBatches(rows, examples, batch_size=30, seed=0)
    assert batches.per_epoch == 24 and len(examples) == 3 * 240
    labels = []
    for inputs, known in batches.dataset(0).take(24):
        assert len(inputs["token_ids"]) == len(known["row"]) >= 30
        row = known["row"].numpy()
        firsts = np.concatenate([[True], row[1:] != row[:-1]])
        assert firsts.sum() == len(set(row)) == 30  # a row's windows stay together
        labels += known["label"].numpy()[firsts].tolist()
    assert sum(labels) == 240 and len(labels) == 720


@pytest.mark.parametrize(
    ("rows", "more", "said"),
    [
        ([("a", "b"), ("c", "d")], {"text_columns": "headline,text"}, r"no column 'text'"),
        ([("a", "b"), ("c", "d")], {"text_columns": "headline"}, "--text_columns=headline: two are needed, of the title and of the text"),
        ([("a", "b"), ("a", "d")], {}, "all rows have the same title; there is nothing to distinguish"),
        ([("a", "b"), ("c", "b")], {}, "all rows have the same text"),
        ([("a", "b"), ("", "d")], {}, r"bad\.tsv:3: the title is empty"),
        ([("a", " "), ("c", "d")], {}, r"bad\.tsv:2: the text is empty"),
        ([("a", "1"), ("b", "1")], {"text_columns": "headline,headline"}, "a column is listed twice"),
    ],
)  # fmt: skip
def test_bad_pairs_are_said(checkpoint, tmp_path, capfd, rows, more, said):
    path = write_tsv(tmp_path / "bad.tsv", rows, ("headline", "body"))
    assert finetune.main(flags(checkpoint, tmp_path, tmp_path / "model", **{"train_data": path, "dev_data": path, **more})) in (
        1,
        2,
    )
    assert re.search(said, capfd.readouterr().err)


def test_a_batch_that_is_looked_at_as_a_whole_is_not_computed_in_parts(checkpoint, matched, tmp_path, capfd):
    more = {"scorer": "dual", "accumulation_steps": 2}
    assert finetune.main(flags(checkpoint, matched, tmp_path / "model", **more)) == 2
    assert "--accumulation_steps=2, --strategy=none: the loss of this task needs the whole of a batch" in capfd.readouterr().err


def test_one_class_can_be_measured_and_not_learnt(checkpoint, tmp_path, capfd):
    path = write_tsv(tmp_path / "bad.tsv", [("a", "b", "1"), ("c", "d", "1.0")], ("headline", "body", "same"))
    more = {"train_data": path, "dev_data": path, "label_column": "same"}
    assert finetune.main(flags(checkpoint, tmp_path, tmp_path / "model", **more)) == 1
    assert "one label only (1); pairs that all belong together are trained on without --label_column" in capfd.readouterr().err
    both = write_tsv(tmp_path / "both.tsv", [("a", "b", "1"), ("c", "d", "0")], ("headline", "body", "same"))
    more |= {"train_data": both, "epochs": 0}
    assert finetune.main(flags(checkpoint, tmp_path, tmp_path / "model", **more)) == 0
    assert "cannot be computed on these rows: roc_auc" in capfd.readouterr().err
    written = tmp_path / "metrics.json"
    assert evaluate.main([f"--model_dir={tmp_path / 'model'}", f"--data={path}", f"--metrics_out={written}"]) == 0
    figures = json.loads(written.read_text())
    assert (
        figures["roc_auc"] is None and figures["accuracy"] == figures["recall"] == sum(figures["confusion_matrix"][1][1:]) / 2
    )
    seen = capfd.readouterr()
    assert re.search(r"^roc_auc +-$", seen.out, re.M) and figures["warnings"][-1] in seen.err
    assert figures["warnings"][-1] == "cannot be computed on these rows: roc_auc"


def test_negatives_that_rows_name_are_learnt_from(tmp_path):
    path = tmp_path / "t.tsv"
    rows = [("film", "good", "bad"), ("plot", "fine", " "), ("film", "dull", "good"), ("cafe", "x", "not x")]
    write_tsv(path, rows, ("query", "positive", "negative"))
    source = SourceConfig(text_columns=("query", "positive", "negative"), label_column="")
    table = open_table(str(path), source, Match.learnt_columns(source, {}), keyed_by=2)
    options = Match.resolve_options(MatchOptions(scorer="dual"), source)
    assert options.own_negatives == 1 and Match.columns(source) == ("query", "positive")
    cross = task(scorer="cross", own_negatives=1, negatives=0)
    examples = cross.examples(table, 0, None)
    for epoch in range(5):
        columns = examples.read(np.arange(len(examples)), 0, epoch)[0]
        found = sorted(zip(*(columns[name].tolist() for name in examples.columns), strict=True))
        assert len(found) == 8 and [row[:2] for row in found if row[2] == b"1"] == sorted(
            (a.encode(), b.encode()) for a, b, _ in rows
        )
        wrong = {(title, text) for title, text, label in found if label == b"0"}
        assert (b"film", b"bad") in wrong and (b"cafe", b"not x") in wrong
        # No text, or one that is right for the title elsewhere: another row's stands in.
        assert (b"film", b"good") not in wrong and len([pair for pair in wrong if pair[0] == b"plot"]) == 1
    dual = task(scorer="dual", own_negatives=1)
    examples = dual.examples(table, 0, None)
    columns = examples.read(np.arange(4), 0, 0)[0]
    assert examples.columns == ("title", "text", "negative_title_1", "negative_1")
    raw = strings(**{name: values.tolist() for name, values in columns.items()})
    encoded, known = featurised(dual, raw)
    assert encoded["part"].numpy().tolist() == [0, 1, 2] * 4 and b"not x" in columns["negative_1"]
    assert np.isfinite(dual.losses(known, outputs(known))).all()
    assert dual.measured(table.narrowed(1)) is None and len(cross.measured(table.narrowed(1))) == 8


@pytest.mark.parametrize("scorer", ["cross", "dual"])
def test_triples_from_the_command_line(checkpoint, tmp_path, capfd, monkeypatch, scorer):
    texts = [f"{a} {b}" for a in WORDS[:6] for b in WORDS[6:12]]
    write_tsv(tmp_path / "train.tsv", [(t, f"{t} {t}", f"not {t}") for t in texts], ("query", "positive", "negative"))
    write_tsv(tmp_path / "dev.tsv", [(t, f"very {t}") for t in texts[:5]], ("query", "positive"))
    more = {"text_columns": "query,positive,negative", "scorer": scorer, "steps": 1}
    given = [flag for flag in flags(checkpoint, tmp_path, tmp_path / "m", **more) if not flag.startswith("--dev_data")]
    assert finetune.main([*given, "--dev_fraction=0.3"]) == 0
    assert evaluate.main([f"--model_dir={tmp_path / 'm'}", f"--data={tmp_path / 'dev.tsv'}"]) == 0
    out = tmp_path / "out.jsonl"
    assert predict.main([f"--model_dir={tmp_path / 'm'}", f"--input={tmp_path / 'dev.tsv'}", f"--output={out}"]) == 0
    assert len(out.read_text().splitlines()) == 5
    capfd.readouterr()
    assert finetune.main(flags(checkpoint, tmp_path, tmp_path / "n", **more, label_column="label")) == 2
    assert "negative would be a column of negatives, for rows without --label_column" in capfd.readouterr().err

    def stop(_run):
        raise KeyboardInterrupt

    monkeypatch.setattr("kbert.train.run.Run.fit", stop)
    more = {"text_columns": "query,positive", "scorer": scorer}
    assert finetune.main(flags(checkpoint, tmp_path, tmp_path / "o", **more)) == 130
    assert "its column 'negative' is not read; --text_columns=TITLE,TEXT,negative reads it" in capfd.readouterr().err
