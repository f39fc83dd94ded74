"""Answering: windows, targets and best spans against brute force; a model from the command line to a fresh process."""

import dataclasses
import json
import re
import string

import numpy as np
import pytest
import tensorflow as tf
from conftest import VOCABULARY
from hypothesis import given, settings
from hypothesis import strategies as st

from kbert import evaluate, export, finetune, predict
from kbert.config import EncoderConfig, ModelConfig, TextConfig
from kbert.data.indexing import open_table
from kbert.data.tokenizer import Tokenizer
from kbert.errors import DataError, UsageError
from kbert.model.windows import windows
from kbert.source import SourceConfig
from kbert.tasks.answer.options import AnswerOptions
from kbert.tasks.answer.task import Answer
from kbert.train import batches as pipeline

ARTICLES = ("a", "an", "the")
COLUMNS = ("question", "context", "answers")
SOURCE = SourceConfig(text_columns=COLUMNS[:2], label_column="answers")
WORDS = ["good", "bad", "film", "unlikely", "the", "Café", "电影", "很好", "x", "!", "\u00a0", "\u200b", "😀", "zzz", "un-like"]
texts = st.lists(st.sampled_from(WORDS), max_size=30).map(" ".join)


def task(max_length=16, **options) -> Answer:
    settings = {"max_question_length": 4, "doc_stride": 3, "max_answer_length": 5, "n_best": 3, **options}
    config = ModelConfig(
        task="answer",
        fields=COLUMNS[:2],
        labels=(),
        options=dataclasses.asdict(AnswerOptions(**settings)),
        encoder=EncoderConfig(vocabulary_size=len(VOCABULARY), num_layers=1, num_heads=1, hidden_dim=4, intermediate_dim=8),
        text=TextConfig(lowercase=True, strip_accents=True),
        max_length=max_length,
    )
    return Answer(config, TOKENIZER)


TOKENIZER = Tokenizer(VOCABULARY, lowercase=True, strip_accents=True)
TASK = task()
SIGNATURE = {name: tf.TensorSpec([None], tf.string) for name in COLUMNS}
ENCODE = tf.function(lambda raw: TASK.encode(raw), input_signature=[{name: SIGNATURE[name] for name in COLUMNS[:2]}])


@tf.function(input_signature=[SIGNATURE])
def featurised(raw):
    encoded = TASK.encode(raw)
    return encoded, TASK.supervise(raw, encoded)


@tf.function(
    input_signature=[
        {name: SIGNATURE[name] for name in COLUMNS[:2]},
        tf.TensorSpec([None, 2]),
    ]
)
def decoded(raw, values):
    encoded = TASK.encode(raw)
    return TASK.decode(encoded["token_ids"].with_values(values), encoded, raw)


def tensors(rows):
    return {name: tf.constant([row[i] for row in rows], tf.string) for i, name in enumerate(COLUMNS[: len(rows[0])])}


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 60), st.integers(1, 12)), min_size=1, max_size=5), st.integers(0, 11))
def test_windows_cover_every_row_and_every_short_run(rows, overlap):
    counts, room = (np.array(column, np.int32) for column in zip(*rows, strict=True))
    room = np.maximum(room, overlap + 1).astype(np.int32)
    cut = windows(tf.constant(counts), tf.constant(room), overlap, even=False)
    row, first, behind = (x.numpy() for x in (cut.row, cut.first, cut.first + tf.cast(cut.token.row_lengths(), tf.int32)))
    before = (np.cumsum(counts) - counts)[row]
    assert [ts[0] for ts in cut.token.to_list() if ts] == (before + first)[behind > first].tolist()
    assert sorted(set(row)) == list(range(len(rows))) and list(row) == sorted(row)
    for r, count in enumerate(counts):
        held = list(zip(first[row == r], behind[row == r], strict=True))
        assert held[0][0] == 0 and held[-1][1] == count and all(b - a <= room[r] for a, b in held)
        assert len(held) == 1 or all(b > a for a, b in held)
        for a in range(max(count - overlap, 0)):
            assert any(lo <= a and a + overlap < hi for lo, hi in held), (a, held)


@settings(max_examples=60)
@given(st.data())
def test_a_target_maps_back_to_the_characters_of_its_answer(data):
    rows = []
    for _ in range(data.draw(st.integers(1, 3))):
        context = data.draw(texts)
        start = data.draw(st.integers(0, max(len(context) - 1, 0)))
        end = data.draw(st.integers(start, min(len(context), start + 12)))
        answer = context[start:end]
        gold = [{"text": answer, "answer_start": start}] if answer.strip() else []
        rows.append((data.draw(texts), context, json.dumps(gold)))
    encoded, target = featurised(tensors(rows))
    row, first, prefix = (encoded[name].numpy() for name in ("row", "first", "prefix"))
    lengths = encoded["token_ids"].row_lengths().numpy()
    assert lengths.max() <= 16
    places = [encoded[name].to_list() for name in ("begins", "ends")]
    target = target.numpy()
    for r, (_, _, gold) in enumerate(rows):
        begins, ends = (of_rows[r] for of_rows in places)
        answer = json.loads(gold)
        a = answer[0]["answer_start"] if answer else 0
        z = a + len(answer[0]["text"]) if answer else 0
        wanted = [t for t in range(len(begins)) if ends[t] > a and begins[t] < z]
        for w in np.flatnonzero(row == r):
            held = range(first[w], first[w] + lengths[w] - prefix[w] - 1)
            whole = bool(wanted) and wanted[0] in held and wanted[-1] in held
            position = prefix[w] - first[w]
            expected = [wanted[0] + position, wanted[-1] + position] if whole else [0, 0]
            assert target[w].tolist() == expected
        if wanted and len(wanted) <= 4:  # no more than the overlap and one
            assert target[row == r].any()


def brute_force(logits, encoded, context, r, longest, n):
    """All spans of all windows, by hand: (text, start, end, score) best first; and the no-answer margin."""
    starts = np.cumsum([0, *map(len, encoded["token_ids"])])
    lengths = [len(window) for window in encoded["token_ids"]]
    best: dict[tuple[int, int], float] = {}
    nones = []
    for w in np.flatnonzero(np.array(encoded["row"]) == r):
        first, prefix = encoded["first"][w], encoded["prefix"][w]
        nones.append(logits[starts[w]].sum())
        width = lengths[w] - prefix - 1
        for i in range(width):
            for j in range(i, min(i + longest, width)):
                score = logits[starts[w] + prefix + i, 0] + logits[starts[w] + prefix + j, 1]
                key = (first + i, first + j)
                best[key] = max(best.get(key, -np.inf), score)
    order = sorted(best, key=lambda key: (-best[key], key[0], key[1]))
    total = np.log(sum(np.exp(np.float64(s)) for s in best.values())) if best else 0
    found = []
    for i, j in order[:n]:
        a, z = encoded["begins"][r][i], encoded["ends"][r][j]
        found.append((context[a:z], a, z, np.exp(best[i, j] - total)))
    return found, min(nones) - (best[order[0]] if order else 0)


@settings(max_examples=40)
@given(st.lists(st.tuples(texts, texts), min_size=1, max_size=3), st.integers(0, 2**32 - 1), st.booleans())
def test_decoding_is_exact_over_all_windows_and_a_batch_of_one_is_a_batch_of_many(rows, seed, ties):
    encoded = {name: v.to_list() if isinstance(v, tf.RaggedTensor) else v.numpy() for name, v in ENCODE(tensors(rows)).items()}
    rng = np.random.default_rng(seed)
    splits = np.cumsum([0, *map(len, encoded["token_ids"])])
    shape = (splits[-1], 2)
    logits = (rng.integers(0, 3, shape) if ties else rng.normal(0, 3, shape)).astype(np.float32)
    served = {name: value.numpy() for name, value in decoded(tensors(rows), logits).items()}
    for r, row in enumerate(rows):
        found, margin = brute_force(logits, encoded, row[1], r, 5, 3)
        assert served["count"][r] == len(found)
        for i, (text, start, end, score) in enumerate(found):
            assert (served["starts"][r, i], served["ends"][r, i]) == (start, end)
            assert served["answers"][r, i].decode() == text and served["scores"][r, i] == pytest.approx(score, abs=1e-5)
        assert (served["starts"][r, len(found) :] == -1).all() and (served["answers"][r, len(found) :] == b"").all()
        if found:
            assert served["answer"][r].decode() == found[0][0] and served["no_answer"][r] == pytest.approx(margin, abs=1e-4)
        else:
            assert served["answer"][r] == b"" and served["start"][r] == served["end"][r] == -1 and served["score"][r] == 0
        of_row = np.flatnonzero(np.array(encoded["row"]) == r)
        part = logits[splits[of_row[0]] : splits[of_row[-1] + 1]]
        alone = decoded(tensors([row]), part)
        for name, value in alone.items():
            if value.dtype == tf.float32:
                assert np.allclose(value[0], served[name][r], atol=1e-6)
            else:
                assert np.array_equal(value[0], served[name][r])


def test_eager_is_the_graph():
    rows = [("the film?", "good bad 电影 Café unlikely film the x"), ("", ""), ("bad " * 9, "x")]
    raw = tensors(rows)
    eager, graph = TASK.encode(raw), ENCODE(raw)
    for name in graph:
        flat = [e.flat_values if isinstance(e, tf.RaggedTensor) else e for e in (eager[name], graph[name])]
        assert np.array_equal(*flat), name
    logits = np.random.default_rng(0).normal(size=(graph["token_ids"].flat_values.shape[0], 2)).astype(np.float32)
    by_hand = TASK.decode(eager["token_ids"].with_values(tf.constant(logits)), eager, raw)
    for name, value in decoded(raw, logits).items():
        assert np.array_equal(value, by_hand[name]), name


def test_answers_are_cut_from_contexts_with_invalid_bytes():
    raw = {"question": tf.constant(["x"]), "context": tf.constant([b"good \xff\xfe b\xc3\xa4d \xe7\x94\xb5\xff film"])}
    encoded = ENCODE(raw)
    size = encoded["token_ids"].flat_values.shape[0]
    logits = np.zeros((size, 2), np.float32)
    prefix = int(encoded["prefix"][0])
    logits[prefix + 1, 0] = logits[prefix + 2, 1] = 9
    served = decoded(raw, logits)
    assert served["answer"][0].numpy().decode() == "bäd 电" and (served["start"][0], served["end"][0]) == (6, 11)


def test_a_threshold_lets_the_model_say_nothing():
    quiet = task()
    quiet.calibrate({"no_answer_threshold": 1.0})
    raw = tensors([("x", "good film"), ("x", "bad film")])
    encoded = quiet.encode(raw)
    logits = np.zeros((encoded["token_ids"].flat_values.shape[0], 2), np.float32)
    logits[0] = 2.0  # [CLS] of the first row only
    served = quiet.decode(encoded["token_ids"].with_values(tf.constant(logits)), encoded, raw)
    assert served["answer"].numpy().tolist() == [b"", b"bad"] and served["start"].numpy().tolist() == [-1, 0]
    assert served["no_answer"].numpy().tolist() == [4.0, 0.0]
    assert served["score"][0].numpy() == pytest.approx(np.exp(4) / (np.exp(4) + 3))
    assert quiet.present({n: v.numpy() for n, v in served.items()}, 0)["n_best"][0]["answer"] == "good"


def test_the_loss_is_the_mean_of_both_ends():
    from kbert.tasks.answer.task import span_loss

    logits = np.random.default_rng(0).normal(size=(2, 5, 2)).astype(np.float32)
    logits[1, 3:] -= 1e9
    target = np.array([[1, 4], [0, 2]], np.int32)
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    by_hand = [-(np.log(p[r, target[r, 0], 0]) + np.log(p[r, target[r, 1], 1])) / 2 for r in range(2)]
    assert np.allclose(span_loss(target, tf.constant(logits)), by_hand, atol=1e-5)


def test_windows_that_do_not_fit_are_a_usage_error(checkpoint, tmp_path, capsys):
    with pytest.raises(UsageError, match="--doc_stride=9 must be less"):
        task(doc_stride=9)
    flags = ["--task=answer", f"--init={checkpoint}", "--train_data=not read", f"--model_dir={tmp_path / 'm'}"]
    assert finetune.main([*flags, "--max_length=80", "--doc_stride=13"]) == 2
    assert "--max_length=80 leaves 13 tokens of context beside a question" in capsys.readouterr().err
    with pytest.raises(UsageError, match="expected two"):
        Answer.fields(SourceConfig())
    with pytest.raises(UsageError, match="has no labels"):
        Answer.audit("f", COLUMNS[:2], ["a", "b"])


def write_rows(path, rows):
    lines = [json.dumps(dict(zip(COLUMNS, row, strict=True)), ensure_ascii=False) for row in rows]
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("context", "answers", "message"),
    [
        ("good film", [{"text": "bad", "answer_start": 0}], "the answer 'bad' is not found in the context"),
        ("", [{"text": "bad", "answer_start": 0}], "the answer 'bad' is not found in the context"),
        ("good", [{"text": " ", "answer_start": 0}], "an answer is empty"),
        ("good", [{"text": "good", "answer_start": "0"}], "answer_start: expected a number"),
        ("good", [3], 'expected an answer {"text", "answer_start"}, found 3'),
        ("good", '["good"', "the answers are not JSON: '[\"good\"'"),
        ("good", "bad", "the answer 'bad' is not found in the context"),
        ("good", {"text": ["good"], "answer_start": []}, "1 answer texts, but 0 answer_start values"),
    ],
)
def test_wrong_gold_names_file_and_line(tmp_path, capsys, checkpoint, context, answers, message):
    good = ("what", "good film", [{"text": "good", "answer_start": 0}])
    path = write_rows(tmp_path / "f.jsonl", [good, ("what", context, answers)])
    flags = [f"--init={checkpoint}", f"--train_data={path}", f"--model_dir={tmp_path / 'm'}", "--max_length=20"]
    assert finetune.main(["--task=answer", *flags, "--max_question_length=6", "--doc_stride=6"]) == 1
    assert f"{path}:2: {message}" in capsys.readouterr().err


def test_answers_in_the_wrong_place_are_moved_and_reported(tmp_path, caplog):
    rows = [
        ("q", "bad good bad good", [{"text": "good", "answer_start": 11}]),
        ("q", "bad", [{"text": "bad", "answer_start": 900}, {"text": "dull", "answer_start": 0}]),
    ]
    audit = Answer.audit("f", COLUMNS[:2], None)
    table = open_table(str(write_rows(tmp_path / "f.jsonl", rows)), SOURCE, COLUMNS, keyed_by=2, nested=True, check=audit)
    assert (audit.questions, audit.answered, audit.moved, audit.nowhere) == (2, 2, 2, 1)
    audit.finish()
    assert "f: 2 of 2 questions have an answer that is not at its answer_start" in caplog.text
    assert "f: 1 of 2 questions have an answer that is not found in their context" in caplog.text
    assert "--offsets" not in caplog.text
    raw = {name: tf.constant(column) for name, column in table.read([0, 1]).items()}
    _, target = featurised(raw)
    prefix = 3
    assert target.numpy().tolist() == [[prefix + 3, prefix + 3], [prefix, prefix]]


def test_answer_start_in_other_units(tmp_path, caplog):
    text = "😀 😀 it is good, good, good 电影"
    for unit, width in (("utf16", lambda t: len(t.encode("utf-16-le")) // 2), ("bytes", lambda t: len(t.encode()))):
        for second in ("good, good 电", "电影"):
            at = text.rindex(second)
            row = (
                "q",
                text,
                [{"text": second, "answer_start": width(text[:at])}, {"text": "it", "answer_start": width("😀 😀 ")}],
            )
            path = write_rows(tmp_path / "f.jsonl", [row] * 3)
            source = dataclasses.replace(SOURCE, offsets=unit)
            audit = Answer.audit("f", COLUMNS[:2], None)
            reader = Answer.reader(source)
            table = open_table(str(path), source, COLUMNS, keyed_by=2, nested=True, reader=reader, check=audit)
            assert audit.moved == 0 and json.loads(table.read([0])["answers"][0])[0] == {"text": second, "answer_start": at}
            audit = Answer.audit("f", COLUMNS[:2], None)
            open_table(str(path), SOURCE, COLUMNS, keyed_by=2, nested=True, reader=Answer.reader(SOURCE), check=audit)
            audit.finish()
            assert f"--offsets={unit} would place those of 3 right" in caplog.text
            caplog.clear()
    with pytest.raises(UsageError, match="--ends=inclusive: answers have an answer_start but no end"):
        Answer.reader(dataclasses.replace(SOURCE, ends="inclusive"))


def test_a_file_without_gold_is_not_measured(tmp_path):
    def audited(qas, name="f.json"):
        document = {"data": [{"paragraphs": [{"context": "good film", "qas": qas}]}]}
        (tmp_path / name).write_text(json.dumps(document))
        audit = Answer.audit(name, COLUMNS[:2], ())
        open_table(str(tmp_path / name), SOURCE, COLUMNS, keyed_by=2, nested=True, check=audit)
        audit.finish()

    for qas in ([{"question": "q", "answers": []}] * 3, [{"question": "q", "answers": [], "is_impossible": False}]):
        with pytest.raises(DataError, match="none of . questions has a gold answer, so nothing can be measured"):
            audited(qas)
    with pytest.raises(DataError, match="no key 'answers'"):
        audited([{"question": "q"}])
    audited([{"question": "q", "answers": [], "is_impossible": True}])
    audited([{"question": "q", "answers": []}, {"question": "q", "answers": [{"text": "good", "answer_start": 0}]}])
    with pytest.raises(DataError, match="no question has an answer"):
        Answer.audit("f", COLUMNS[:2], None).check_learnable()


def test_answers_that_cannot_be_learnt_or_given_are_counted():
    rows = [
        ("bad", "good film is it good film", [{"text": "film is it good film", "answer_start": 5}]),
        ("bad", "good " * 8 + "film " * 12, [{"text": "film", "answer_start": 40}]),
        ("bad", "film", {"text": [], "answer_start": []}),
        ("bad", "good " * 7 + "film is the good film good " * 3, [{"text": "film is the good film good", "answer_start": 35}]),
    ]
    raw = {name: tf.constant([json.dumps(row[i]) if i == 2 else row[i] for row in rows]) for i, name in enumerate(COLUMNS)}
    said = task(max_answer_length=2).survey([raw])
    assert said[0].startswith("1 of 4 questions have an answer that fits no window"), said
    assert said[1].startswith("1 of 4 questions have an answer of more than --max_answer_length=2"), said


def test_examples_are_windows_each_once_an_epoch(tmp_path):
    rows = [("bad", "the film " * (r % 7 * 3), []) for r in range(30)]
    table = open_table(str(write_rows(tmp_path / "f.jsonl", rows)), SOURCE, COLUMNS, keyed_by=2, nested=True)
    examples = pipeline.training_examples(TASK, table, 0, None)
    raw = {name: tf.constant(column) for name, column in table.read(range(30)).items()}
    every = ENCODE({name: raw[name] for name in COLUMNS[:2]})["token_ids"].to_list()
    assert len(examples) == len(every) > 30
    seen = []
    batches = pipeline.TableBatches(TASK, examples, batch_size=4, seed=1)
    for inputs, target in batches.dataset(0).take(batches.per_epoch):
        ids, mask = inputs["token_ids"].numpy(), inputs["padding_mask"].numpy()
        assert target.shape == (len(ids), 2)
        seen += [row[m == 1].tolist() for row, m in zip(ids, mask, strict=True)]
    assert sorted(seen) == sorted(every)


def test_a_rows_windows_follow_one_another(tmp_path):
    rows = [("bad", "the film " * (r % 7 * 3), []) for r in range(30)]
    table = open_table(str(write_rows(tmp_path / "f.jsonl", rows)), SOURCE, COLUMNS, keyed_by=2, nested=True)
    examples = pipeline.TableExamples(TASK, table)
    orders = []
    for epoch in (0, 1):
        columns, places, windows = examples.read(np.arange(len(examples)), 3, epoch)
        assert len(columns["question"]) == 30 and np.all(np.diff(places) >= 0)  # each row is read once
        assert np.all(np.where(np.diff(places) == 0, np.diff(windows) == 1, windows[1:] == 0)) and windows[0] == 0
        cut = len(examples) // 2
        halves = [examples.read(part, 3, epoch) for part in np.split(np.arange(len(examples)), [cut])]
        contexts = [c for found in halves for c in found[0]["context"][found[1]]]
        assert contexts == columns["context"][places].tolist()
        assert np.concatenate([found[2] for found in halves]).tolist() == windows.tolist()
        orders.append(columns["context"].tolist())
    assert sorted(orders[0]) == sorted(orders[1]) and orders[0] != orders[1]


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    """A folder with train.json and dev.json in SQuAD's layout: the answer is the word behind "is"; some have none."""
    folder = tmp_path_factory.mktemp("asked")
    rng = np.random.default_rng(0)
    for name, count in (("train", 160), ("dev", 40)):
        questions = []
        for i in range(count):
            words = [str(w) for w in rng.choice(["a", "the", "film", "plot", "very", "and"], int(rng.integers(1, 30)))]
            answer = str(rng.choice(["good", "bad", "fine", "dull", "电影"]))
            at = int(rng.integers(len(words) + 1))
            none = i % 5 == 0
            context = " ".join([*words[:at], *([] if none else ["is", answer]), *words[at:]])
            gold = [] if none else [{"text": answer, "answer_start": context.index("is " + answer) + 3}]
            qas = [{"question": "is? " * (9 if i == 1 else 1), "id": f"{name}-{i}", "answers": gold, "is_impossible": none}]
            questions.append({"context": context, "qas": qas})
        document = {"version": "v2.0", "data": [{"title": "t", "paragraphs": questions}]}
        (folder / f"{name}.json").write_text(json.dumps(document), encoding="utf-8")
    return folder


def by_the_official_rules(questions, answers):
    """Exact match and F1 in percent, as evaluate-v2.0.py counts them, written anew."""
    exact = f1 = 0.0
    for gold, answer in zip(questions, answers, strict=True):
        parts = [
            [word for word in re.sub(rf"[{re.escape(string.punctuation)}]", "", text.lower()).split() if word not in ARTICLES]
            for text in [answer, *(gold or [""])]
        ]
        found, wanted = parts[0], parts[1:]
        exact += any(found == one for one in wanted)
        best = 0.0
        for one in wanted:
            left = list(one)
            common = sum(1 for word in found if word in left and (left.remove(word) or True))
            best = max(best, float(found == one) if not found or not one else 2 * common / (len(found) + len(one)))
        f1 += best
    return 100 * exact / len(answers), 100 * f1 / len(answers)


def test_from_squad_files_to_an_export(asked, checkpoint, tmp_path, capfd):
    model = tmp_path / "model"
    flags = {
        "init": checkpoint,
        "train_data": asked / "train.json",
        "dev_data": asked / "dev.json",
        "model_dir": model,
        "max_length": 20,
        "max_question_length": 6,
        "doc_stride": 6,
        "batch_size": 16,
        "epochs": 6,
        "learning_rate": 0.02,
    }
    assert finetune.main(["--task=answer", *(f"--{name}={value}" for name, value in flags.items())]) == 0
    shown = capfd.readouterr()
    assert "windows of up to 20 tokens" in shown.err
    assert re.search(
        r"lengths of questions in tokens: .*, the longest 18; --max_question_length=6 cuts 0.6 % of the rows", shown.err
    )
    assert "exact match" in shown.out
    metrics = json.loads((model / "metrics.json").read_text())["dev"]
    assert metrics["f1"] > 80 and metrics["unanswerable"]["rows"] == 8 and "no_answer_threshold" in metrics

    dev = f"--data={asked / 'dev.json'}"
    out = tmp_path / "again.json"
    assert evaluate.main([f"--model_dir={model}", dev, f"--metrics_out={out}"]) == 0
    again = json.loads(out.read_text())
    assert again == {**metrics, "f1": pytest.approx(metrics["f1"])}

    for said, code in ((False, 1), (True, 0)):
        qas = [{"question": "is?", "answers": [], "is_impossible": said}] * 2
        (tmp_path / "none.json").write_text(json.dumps({"data": [{"paragraphs": [{"context": "a film", "qas": qas}]}]}))
        assert evaluate.main([f"--model_dir={model}", f"--data={tmp_path / 'none.json'}"]) == code
        error = capfd.readouterr().err
        assert ("none of 2 questions has a gold answer" in error) != said and ("no question has an answer" in error) == said

    answers = tmp_path / "answers.jsonl"
    assert predict.main([f"--model_dir={model}", f"--input={asked / 'dev.json'}", f"--output={answers}"]) == 0
    rows = [json.loads(line) for line in answers.read_text(encoding="utf-8").splitlines()]
    paragraphs = json.loads((asked / "dev.json").read_text())["data"][0]["paragraphs"]
    gold = [[answer["text"] for answer in paragraph["qas"][0]["answers"]] for paragraph in paragraphs]
    official = by_the_official_rules(gold, [row["answer"] for row in rows])
    assert (again["exact_match"], again["f1"]) == pytest.approx(official, abs=1e-6)
    long = ("film and " * 12_500)[:-9] + "is 电影"
    odd = [{"question": "is?", "context": long}, {"question": "is?" * 20, "context": ""}]
    (tmp_path / "odd.jsonl").write_text("".join(json.dumps(row) + "\n" for row in odd))
    odd = [f"--model_dir={model}", f"--input={tmp_path / 'odd.jsonl'}", f"--output={tmp_path / 'found.jsonl'}", "--n_best=2"]
    assert predict.main(odd) == 0  # more than 100,000 characters, thousands of windows; none
    rows += [json.loads(line) for line in (tmp_path / "found.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(rows[-2]["n_best"]) == 2
    assert rows[-1]["answer"] == "" and rows[-1]["n_best"] == [] and rows[-1]["start"] == -1
    assert len(rows[0]["n_best"]) == 5 and any(row["answer"] == "" for row in rows[:-1])
    for row in rows:
        for found in [row, *row["n_best"]]:
            if found["start"] >= 0:
                assert row["context"][found["start"] : found["end"]] == found["answer"]

    assert export.main([f"--model_dir={model}", f"--export_dir={tmp_path / 'served'}", "--n_best=2"]) == 0
    serve = tf.saved_model.load(str(tmp_path / "served" / "1")).signatures["serving_default"]
    out = serve(**{name: tf.constant([row[name] for row in rows]) for name in ("question", "context")})
    assert out["answers"].shape[1] == 2
    served = {name: value.numpy().tolist() for name, value in out.items()}
    served["answer"] = [answer.decode() for answer in served["answer"]]
    for name in ("answer", "start", "end"):
        assert served[name] == [row[name] for row in rows]
    for name in ("score", "no_answer"):
        assert np.allclose(served[name], [row[name] for row in rows], atol=1e-5)
