"""The task `tag`: spans and tags, windows, decoding, and the whole way through the command line."""

import json

import numpy as np
import pytest
import tensorflow as tf
from conftest import VOCABULARY, finetune_flags
from hypothesis import given, settings
from hypothesis import strategies as st

from kbert import evaluate, export, finetune, predict, serving
from kbert.config import EncoderConfig, ModelConfig, TextConfig
from kbert.data.entity_reader import EntityReader
from kbert.data.indexing import open_table
from kbert.data.spans import read_spans, tag_numbers
from kbert.data.tokenizer import Tokenizer
from kbert.errors import DataError, UsageError
from kbert.model.encoder import Encoder
from kbert.model.windows import windows
from kbert.model_dir import ModelDir
from kbert.source import SourceConfig
from kbert.tasks.tag.task import Tag, TagLoss
from kbert.train.objective import Objective

ODD = [
    "",
    " ",
    "\0",
    "very good film",
    "中文very好电影",
    "Café\u0301 film \ufffd good",
    "good 🎉 film!",
    "x" * 300,
    "unlikely films",
]


def written(rows: int, seed: int, words: tuple[int, int] = (2, 12)) -> list[tuple[list[str], list[str]]]:
    """Sentences whose entities a tiny model can learn: films and plots are things, verdicts are views."""
    rng = np.random.default_rng(seed)
    out = []
    for _ in range(rows):
        tokens, tags = [], []
        for _ in range(int(rng.integers(*words))):
            kind = rng.integers(5)
            if kind == 0:
                tokens += [str(rng.choice(["film", "plot"]))]
                tags += ["B-thing"]
            elif kind == 1:
                tokens += ["very", str(rng.choice(["good", "bad", "dull"]))]
                tags += ["B-view", "I-view"]
            else:
                tokens += [str(rng.choice(["a", "the", "is", "and", "unlikely"]))]
                tags += ["O"]
        out.append((tokens, tags))
    return out


def write_conll(path, sentences):
    path.write_text("\n".join("".join(f"{a} {b}\n" for a, b in zip(*s, strict=True)) for s in sentences), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("tag")
    for name, rows, seed in (("train", 192, 1), ("dev", 40, 2), ("test", 40, 3)):
        write_conll(path / f"{name}.conll", written(rows, seed))
    return path


def tag_flags(checkpoint, folder, model_dir, **more):
    data = {"train_data": folder / "train.conll", "dev_data": folder / "dev.conll"}
    return ["--task=tag", *finetune_flags(checkpoint, folder, model_dir, **{**data, "stride": 6, **more})]


# The softmax decoder's own parts are tested below without a run; a run of each would take a minute more.
@pytest.fixture(scope="module", params=["crf"])
def learnt(request, checkpoint, folder, tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / request.param
    more = {"epochs": 8, "learning_rate": 0.02, "decoder": request.param, "test_data": folder / "test.conll"}
    assert finetune.main(tag_flags(checkpoint, folder, path, **more)) == 0
    return path


def task(labels=("thing", "view"), max_length=20, **options) -> Tag:
    config = ModelConfig(
        task="tag",
        fields=("text",),
        labels=labels,
        options={"stride": 6, **options},
        encoder=EncoderConfig(vocabulary_size=len(VOCABULARY), num_layers=1, num_heads=1, hidden_dim=4, intermediate_dim=8),
        text=TextConfig(lowercase=True, strip_accents=True),
        max_length=max_length,
    )
    return Tag(config, Tokenizer(VOCABULARY, lowercase=True, strip_accents=True))


def raw(*texts):
    return {"text": tf.constant(list(texts)), "tokens": tf.fill([len(texts)], "")}


def rowwise(decoded):
    """Decoded outputs as a list of entities a row, scores apart."""
    arrays = {name: value.numpy() for name, value in decoded.items()}
    columns = [arrays[name] for name in ("type", "text", "start", "end")]
    return [[tuple(c[row, i] for c in columns) for i in range(n)] for row, n in enumerate(arrays["count"])], arrays["score"]


# Spans


@given(st.data())
def test_spans_over_words_become_tags_and_spans_again(data):
    words = data.draw(st.lists(st.lists(st.integers(1, 4), max_size=8), min_size=1, max_size=4))
    starts, ends, spans, tags = [], [], [], []
    for row in words:
        at, entities, begin = 0, [], None
        for width in row:
            kind = data.draw(st.integers(0, 4))
            kind = 0 if kind in (2, 4) and (not tags or begin is None or tags[-1] not in (kind - 1, kind)) else kind
            starts.append(at)
            ends.append(at + width)
            tags.append(kind)
            if kind in (1, 3):
                entities.append((at, at + width, "ab"[kind // 2]))
            elif kind:
                entities[-1] = (entities[-1][0], at + width, entities[-1][2])
            begin = at if kind else None
            at += width + data.draw(st.integers(0, 1))
        spans.append(entities)
    counts = np.array([len(row) for row in words])
    found, widened, lost = tag_numbers(spans, {"a": 0, "b": 1}, np.array(starts, int), np.array(ends, int), counts)
    assert found.tolist() == tags and widened == lost == 0


def test_spans_inside_words_are_widened_and_counted():
    places = np.array([0, 5, 10]), np.array([4, 9, 14]), np.array([3])
    number = {"a": 0, "b": 1}
    assert tag_numbers([[(1, 3, "a")]], number, *places)[0].tolist() == [1, 0, 0]
    assert tag_numbers([[(1, 7, "a"), (7, 12, "b")]], number, *places)[0].tolist() == [1, 2, 3]
    assert tag_numbers([[(0, 2, "a"), (2, 4, "b"), (5, 9, "b")]], number, *places)[0].tolist() == [1, 3, 0]
    assert tag_numbers([[(0, 2, "a"), (2, 4, "b"), (5, 9, "b")]], number, *places)[1:] == (1, 1)
    assert tag_numbers([[(4, 5, "a"), (14, 20, "a")]], number, *places)[1:] == (0, 2)
    assert tag_numbers([[(0, 1, "a")]], number, np.zeros(0, int), np.zeros(0, int), np.array([0]))[1:] == (0, 1)


def test_three_layouts_are_told_apart():
    expected = [(0, 2, "name"), (3, 4, "place")]
    for value in (
        [{"start": 3, "end": 4, "type": "place"}, {"start": 0, "end": 2, "type": "name", "text": "ab"}],
        [[0, 2, "name"], [3, 4, "place"]],
        {"name": {"ab": [[0, 1]]}, "place": {"d": [[3, 3]]}},
        {"start": [0, 3], "end": [2, 4], "type": ["name", "place"], "text": ["ab", "d"]},
    ):
        assert read_spans(json.dumps(value)) == expected
        _, gold = EntityReader(SourceConfig())(("ab d", json.dumps(value)))
        assert read_spans(gold) == expected
    for empty in ("[]", "{}", '{"start": [], "end": [], "type": []}', '{"name": {}}'):
        assert read_spans(empty) == []


# Windows


@settings(max_examples=25)
@given(st.lists(st.integers(0, 90), min_size=1, max_size=5), st.integers(1, 20), st.integers(0, 19))
def test_every_token_belongs_to_one_window_that_sees_around_it(lengths, room, stride):
    stride = min(stride, room - 1)
    row, token, owned, _ = windows(tf.constant(lengths), room, stride)
    tokens, mine = token.to_list(), owned.to_list()
    assert [t for ts, os in zip(tokens, mine, strict=True) for t, o in zip(ts, os, strict=True) if o] == list(
        range(sum(lengths))
    )
    assert sorted(set(row.numpy())) == list(range(len(lengths)))
    for i, (ts, os) in enumerate(zip(tokens, mine, strict=True)):
        assert len(ts) == min(room, lengths[row[i]])
        if i and row[i] == row[i - 1]:
            shared = len(set(ts) & set(tokens[i - 1]))
            assert shared >= stride
            assert abs(os.index(True) - shared / 2) <= 1  # they meet in the middle of what they share


def test_targets_are_the_first_pieces_tags_in_every_window():
    tag = task(max_length=9, stride=2)
    gold = json.dumps([[0, 8, "thing"], [12, 16, "view"]])
    texts = raw("unlikely is good film and plot a")
    encoded = tag.encode(texts)
    targets = tag.supervise({**texts, "entities": tf.constant([gold])}, encoded)
    ids = [[VOCABULARY[i] for i in window] for window in encoded["token_ids"].to_list()]
    assert ids == [
        ["[CLS]", "un", "##like", "##ly", "is", "good", "film", "and", "[SEP]"],
        ["[CLS]", "##ly", "is", "good", "film", "and", "plot", "a", "[SEP]"],
    ]
    assert targets.to_list() == [[-1, 1, -1, -1, 0, 3, 0, 0, -1], [-1, -1, 0, 3, 0, 0, 0, 0, -1]]
    assert encoded["row"].numpy().tolist() == [0, 0]


def outputs_of(tag, texts, wanted):
    """Encoded texts, and outputs that put each word's tag far above the others, wherever it stands."""
    encoded = tag.encode(raw(*texts))
    shows = encoded["shows"].values
    scores = tf.one_hot(tf.gather(tf.constant([*wanted, 0]), tf.where(shows < 0, len(wanted), shows)), 5, 20.0, 0.0)
    return encoded, encoded["shows"].with_values(scores)


@pytest.mark.parametrize("decoder", ["softmax", "crf"])
def test_decoding_joins_windows_and_reads_as_seqeval_does(decoder):
    tag = task(max_length=9, stride=2, decoder=decoder)
    serving_model(tag)
    texts = ["Unlikely is good film, and PLOT a film 中文", "", "very good"]
    encoded, outputs = outputs_of(tag, texts, [1, 0, 3, 4, 0, 3, 4, 1, 1, 3, 4, 1, 2])
    rows, scores = rowwise(tag.decode(outputs, encoded, raw(*texts)))
    assert rows == [
        [
            (b"thing", b"Unlikely", 0, 8),
            (b"view", b"good film", 12, 21),
            (b"view", b"and PLOT", 23, 31),
            (b"thing", b"a", 32, 33),
            (b"thing", b"film", 34, 38),
            (b"view", "中文".encode(), 39, 41),
        ],
        [],
        [(b"thing", b"very good", 0, 9)],
    ]
    assert np.allclose(scores[scores > 0], 1, atol=1e-5) and (scores > 0).sum() == 7


def test_softmax_repairs_and_crf_never_breaks():
    for decoder, expected in (("softmax", [(b"thing", b"good", 0, 4), (b"view", b"film", 5, 9)]), ("crf", None)):
        tag = task(decoder=decoder)
        serving_model(tag)
        encoded, outputs = outputs_of(tag, ["good film"], [2, 4])
        rows, _ = rowwise(tag.decode(outputs, encoded, raw("good film")))
        if expected:
            assert rows == [expected]
        else:  # I-thing I-view is no sequence; some valid one that has one of them right is
            assert len(rows[0]) == 1 or rows[0][1][2] == 5


def serving_model(tag):
    return tag.build(Encoder(tag.config.encoder)).served


def test_a_text_of_100_000_characters():
    long = ("good film 电影 " * 7693)[:100_000]
    tag = task(decoder="softmax", max_windows=10_000)
    rows, _ = rowwise(serving.Predictor(tag, serving_model(tag))(raw(long)))
    assert len(rows[0]) > 1000 and rows[0][-1][3] > 99_000
    assert all(long[start:end].encode() == text for _, text, start, end in rows[0])


def test_the_loss_is_the_mean_over_words_that_have_a_tag():
    logits = tf.constant(np.random.default_rng(0).normal(size=(2, 3, 5)).astype(np.float32))
    targets = tf.constant([[-1, 2, 0], [-1, -1, 4]])
    logs = tf.nn.log_softmax(logits).numpy()
    expected = -(logs[0, 1, 2] + logs[0, 2, 0] + logs[1, 2, 4]) / 3

    def mean(crf):
        objective = Objective(TagLoss(crf))
        weights = objective.weights(targets, targets >= 0)
        return float(objective.loss(targets, logits, weights, {"": 3.0}))

    assert mean(None) == pytest.approx(expected, abs=1e-6)
    tag = task(decoder="crf")
    # Without transitions a CRF is a softmax at every word.
    assert mean(tag._crf) == pytest.approx(expected, abs=1e-5)
    assert float(TagLoss(None)(tf.fill([2, 3], -1), logits)) == 0.0


def test_the_loss_under_a_crf_is_that_of_its_transitions():
    tag = task(decoder="crf")
    built = tag.build(Encoder(tag.config.encoder))
    targets, logits = tf.constant([[-1, 2, 0]]), tf.zeros((1, 3, 5))

    def loss():
        return float(tf.reduce_sum(built.loss.call(targets, logits)))

    assert loss() == pytest.approx(2 * np.log(5), abs=1e-5)
    transitions = built.model.get_layer("crf").transitions
    transitions.assign(tf.tensor_scatter_nd_update(transitions.value, [[2, 0]], [1.0]))
    assert loss() < 0.1


# The command line


def test_a_run_learns_and_reports_entities(learnt):
    metrics = json.loads((learnt / "metrics.json").read_text())
    assert metrics["test"]["micro"]["f1"] > 0.9 and metrics["test"]["token_accuracy"] > 0.9
    config = json.loads((learnt / "config.json").read_text())["model"]
    assert config["labels"] == ["thing", "view"] and config["options"]["stride"] == 6


def test_evaluate_predict_and_export_say_the_same(learnt, folder, tmp_path, capsys):
    out = tmp_path / "m.json"
    assert evaluate.main([f"--model_dir={learnt}", f"--data={folder / 'test.conll'}", f"--metrics_out={out}"]) == 0
    assert json.loads(out.read_text()) == json.loads((learnt / "metrics.json").read_text())["test"]
    assert "token accuracy" in capsys.readouterr().out

    predictor = serving.load(learnt)
    long = " ".join(word for tokens, _ in written(20, 5) for word in tokens)
    texts = [*ODD, *(" ".join(tokens) for tokens, _ in written(30, 4)), long, "很好" * 200]
    decoded = predictor(raw(*texts))
    found, scores = rowwise(decoded)
    for text, entities in zip(texts, found, strict=True):
        for kind, surface, start, end in entities:
            assert text[start:end] == surface.decode() and kind in (b"thing", b"view")
    assert len(found[-2]) > 10 and sum(map(len, found)) > 40
    for i in (0, 4, 5, len(texts) - 2):
        alone, score = rowwise(predictor(raw(texts[i])))
        assert alone[0] == found[i]
        assert np.abs(score[0] - scores[i, : score.shape[1]]).max(initial=0) < 1e-5

    lines = [text for text in texts if text.strip(" \0")]
    (tmp_path / "in.txt").write_text("".join(text + "\n" for text in lines), encoding="utf-8")
    assert predict.main([f"--model_dir={learnt}", f"--input={tmp_path / 'in.txt'}", f"--output={tmp_path / 'out.jsonl'}"]) == 0
    written_lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    same = [row for text, row in zip(texts, found, strict=True) if text.strip(" \0")]
    for line, row in zip(written_lines, same, strict=True):
        assert [(e["type"], e["text"], e["start"], e["end"]) for e in line["entities"]] == [
            (kind.decode(), surface.decode(), start, end) for kind, surface, start, end in row
        ]
        assert all(0 < e["score"] <= 1 for e in line["entities"])

    assert export.main([f"--model_dir={learnt}", f"--export_dir={tmp_path / 'saved'}"]) == 0
    texts = [text for text in texts if "\0" not in text]
    served = tf.saved_model.load(str(tmp_path / "saved" / "1")).signatures["serving_default"](text=tf.constant(texts))
    direct = {name: value.numpy() for name, value in predictor(raw(*texts)).items()}
    assert set(served) == {"type", "text", "start", "end", "score", "count", "truncated"}
    assert np.abs(served.pop("score") - direct["score"]).max() < 1e-5
    assert all(value.numpy().tolist() == direct[name].tolist() for name, value in served.items())
    assert direct["start"].dtype == direct["count"].dtype == np.int32 and direct["score"].dtype == np.float32


def test_what_a_run_logs_and_shows(checkpoint, folder, tmp_path, capsys):
    rows = [
        {
            "text": "a very good film",
            "entities": [{"start": 2, "end": 11, "type": "view"}, {"start": 13, "end": 16, "type": "thing"}],
        },
        {"text": "中文很好 film", "entities": [{"start": 2, "end": 4, "type": "view"}]},
    ] * 8
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    flags = tag_flags(checkpoint, folder, tmp_path / "m", train_data=path, dev_data=path, epochs=1, label_column="entities")
    assert finetune.main(flags) == 0
    out, err = capsys.readouterr()
    assert "24 entities: 8 do not begin and end with words" in err and "0 have no word of their own" in err
    assert "16 rows are read in 16 windows of up to 20 tokens" in err
    assert "entities' f1" in out and "token accuracy" in out
    events = b"".join(p.read_bytes() for p in (tmp_path / "m" / "tb").iterdir())
    assert b"dev/mistakes" in events and b"dev/confusion" in events and b"| text | gold | predicted |" in events


BAD = {
    "outside": ([{"start": 0, "end": 9, "type": "x"}], "entity 'x' at characters 0 to 9 (exclusive); the text has 4"),
    "empty": ([{"start": 2, "end": 2, "type": "x"}], "characters 2 to 2"),
    "overlap": (
        [{"start": 0, "end": 3, "type": "x"}, {"start": 2, "end": 4, "type": "y"}],
        "entities overlap: 'x' 'goo' at 0 to 3 and 'y' 'od' at 2 to 4",
    ),
    "surface": ({"x": {"bad": [[0, 2]]}}, "entity 'x' 'bad' is at characters 0 to 2 (inclusive), where the text has 'goo'"),
    "layout": ([{"from": 0}], "expected entities as"),
    "label": ("positive", "expected a JSON list of entities, found positive"),
    "number": (3, "expected entities as"),
    "control": ([{"start": 0, "end": 3, "type": "x\n"}], "contains a line end"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_rows_are_named(case, tmp_path):
    value, message = BAD[case]
    path = tmp_path / "f.jsonl"
    good = {"text": "good", "label": []}
    path.write_text(json.dumps(good) + "\n" + json.dumps({"text": "good", "label": value}) + "\n")
    audit = Tag.audit("f", ("text",), None)
    measured = Tag.audit("f", ("text",), ["x"])
    measured(("good", "", "[]"))
    with pytest.raises(DataError, match="f: no entity in any row, so nothing can be measured"):
        measured.finish()
    with pytest.raises(DataError) as error:
        open_table(
            str(path),
            SourceConfig(),
            ("text", "label"),
            keyed_by=1,
            nested=True,
            reader=Tag.reader(SourceConfig()),
            tokens="auto",
            check=audit,
        )
    assert str(error.value).startswith(f"{path}:2: ") and message in str(error.value)


def test_other_errors(checkpoint, folder, tmp_path, capsys):
    empty = tmp_path / "empty.jsonl"
    empty.write_text('{"text": "good", "label": []}\n')
    other = tmp_path / "other.jsonl"
    other.write_text('{"text": "good", "label": [[0, 4, "hue"]]}\n')
    foreign = tmp_path / "foreign.conll"
    foreign.write_bytes("good O\n电 B-X\n".encode("gb18030"))
    flags = lambda **more: tag_flags(checkpoint, folder, tmp_path / "m", **more)  # noqa: E731
    for argv, code, message in (
        (flags(train_data=empty), 1, "no entity in any row"),
        (flags(train_data=foreign), 1, f"{foreign}:2: bytes b5 e7"),
        (flags(dev_data=other), 1, "other.jsonl:1: type 'hue' is not among the model's: thing, view"),
        (flags(stride=18, train_data="not read"), 2, "--stride=18: windows of --max_length=20 hold 18 tokens"),
        (flags(text_columns="a,b"), 2, "--text_columns names 2 columns"),
        (flags(decoder="hmm"), 2, "decoder"),
    ):
        assert finetune.main(argv) == code
        assert message in capsys.readouterr().err
    with pytest.raises(UsageError):
        task(stride=18)


def test_structured_values_are_for_those_who_ask(tmp_path):
    path = tmp_path / "f.jsonl"
    path.write_text('{"text": "good", "label": ["a", "b"]}\n')
    with pytest.raises(DataError, match="key 'label': expected a string or a number"):
        open_table(str(path), SourceConfig(), ("text", "label"), keyed_by=1)
    path.write_text('{"text": ["good"], "label": []}\n')
    with pytest.raises(DataError, match="key 'text': expected a string or a number"):
        open_table(str(path), SourceConfig(), ("text", "label"), keyed_by=1, nested=True)


def test_a_model_directory_keeps_the_crf(learnt):
    names = ModelDir(learnt).best().weights()
    assert ("crf/transitions" in names) == (learnt.name == "crf")
    if learnt.name == "crf":
        assert np.abs(names["crf/transitions"]).max() > 0
