"""The head of `--init`: kept where task and labels fit, set aside by name elsewhere, written to other forms and read back."""

import csv
import dataclasses
import functools
import json

import numpy as np
import pytest
from conftest import VOCABULARY, finetune_flags, reviews, write_hugging_face, write_tsv
from test_convert import RECORDED, convert
from tiny import batch, full_tensors, hugging_face_tensors

from kbert import checkpoints, finetune, inspect, tasks
from kbert.checkpoints import open_checkpoint
from kbert.checkpoints.head import Head, Unfit, order
from kbert.config import ModelConfig
from kbert.model_dir import ModelDir
from kbert.serving import build_model
from kbert.settings import to_json
from kbert.tasks import fine_tuned, starting_head

rng = np.random.default_rng(5)


def lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A small file for each task."""
    folder = tmp_path_factory.mktemp("files")
    sentences = ["a/O good/B-view film/B-thing\n", "the/O very/B-view dull/I-view plot/B-thing\n", "x/O is/O fine/B-view\n"] * 8
    conll = "\n".join("".join(f"{pair.replace('/', ' ')}\n" for pair in s.split()) for s in sentences)
    (folder / "tag.conll").write_text(conll, encoding="utf-8")
    write_tsv(folder / "classify.tsv", reviews(40, 7))
    answers = [
        {"question": "film", "context": text, "answers": [{"text": text.split()[0], "answer_start": 0}]}
        for text, _ in reviews(24, 8)
    ]
    lines(folder / "answer.jsonl", answers)
    pairs = [(a, b, str(i % 2)) for i, ((a, _), (b, _)) in enumerate(zip(reviews(24, 9), reviews(24, 10), strict=True))]
    write_tsv(folder / "match.tsv", pairs, ("title", "text", "label"))
    with (folder / "aspect.csv").open("w", newline="", encoding="utf-8") as file:
        said = [
            ("the film is good. a plot is x.", "1", "-2"),
            ("the plot is bad. e is e.", "-2", "-1"),
            ("s is a cafe.", "-2", "-2"),
        ]
        csv.writer(file).writerows([("text", "film", "plot"), *(said * 8)])
    return folder


RUNS = {
    "classify": ("classify.tsv", {"pooling": "mean"}),
    "tag": ("tag.conll", {"decoder": "crf", "stride": 6}),
    "answer": ("answer.jsonl", {"max_question_length": 4, "doc_stride": 3, "max_answer_length": 5}),
    "match": ("match.tsv", {"label_column": "label"}),
    "aspect": ("aspect.csv", {"label_column": "film,plot", "filter": "tfn", "filter_units": 4, "filter_epochs": 1}),
}


def run(task, files, init, model_dir, **more):
    file, settings = RUNS[task]
    data = {"train_data": files / file, "dev_data": files / file, "epochs": 0, "max_length": 24, **settings, **more}
    return finetune.main([f"--task={task}", *finetune_flags(init, files, model_dir, **data)])


@pytest.fixture(scope="module")
def model_of(files, checkpoint, tmp_path_factory):
    """Makes a model of a task with these settings, once; tests only read it."""

    @functools.cache
    def made(task, **settings):
        path = tmp_path_factory.mktemp("models") / task
        assert run(task, files, checkpoint, path, **settings) == 0
        return path

    return made


@pytest.mark.parametrize("task", RUNS)
def test_a_models_own_head_is_kept(task, files, model_of, tmp_path, capfd):
    """With another seed, so that what is not taken over differs; weights and dev figures are the first model's."""
    first, second = model_of(task), tmp_path / "second"
    capfd.readouterr()
    assert run(task, files, first, second, seed=3) == 0
    err = capfd.readouterr().err
    assert f"of --task={task} is kept\n" in err and "set aside" not in err and "random" not in err
    was, now = ModelDir(first).best(), ModelDir(second).best()
    before, after = was.weights(), now.weights()
    assert before.keys() == after.keys() and all(np.array_equal(before[name], after[name]) for name in before)
    assert was.metrics == now.metrics and was.calibration == now.calibration
    assert inspect.main([f"--init={first}"]) == 0
    assert f", of --task={task}\n" in capfd.readouterr().out


def test_labels_in_another_order_and_others(files, model_of, tmp_path, capfd):
    first = model_of("classify")
    (tmp_path / "turned.txt").write_text("positive\nnegative\n")
    assert run("classify", files, first, tmp_path / "turned", seed=3, labels=tmp_path / "turned.txt") == 0
    was, now = ModelDir(first).best(), ModelDir(tmp_path / "turned").best()
    assert was.metrics["accuracy"] == now.metrics["accuracy"]
    assert np.array_equal(was.weights()["classifier/kernel"], now.weights()["classifier/kernel"][:, ::-1])
    capfd.readouterr()
    (tmp_path / "more.txt").write_text("negative\npositive\nmixed\n")
    assert run("classify", files, first, tmp_path / "more", labels=tmp_path / "more.txt") == 0
    assert (
        f"--init={first}: its classifier of --task=classify is set aside: its labels are negative, positive, but this run "
        "also has mixed; the new head starts at random values" in capfd.readouterr().err
    )
    assert run("classify", files, first, tmp_path / "new", seed=3, new_head="true") == 0
    assert "--new_head: the classifier of --task=classify of" in capfd.readouterr().err
    new = ModelDir(tmp_path / "new").best().weights()["classifier/kernel"]
    assert not np.array_equal(was.weights()["classifier/kernel"], new)


def test_labels_are_matched_by_name_or_by_number():
    head = Head("classifier", 3, ("b", "c", "a"))
    assert order(head, ("a", "b", "c")).tolist() == [2, 0, 1]
    for names in ((), ("LABEL_0", "LABEL_1", "LABEL_2")):
        assert order(Head("classifier", 3, names), ("0", "2", "1")).tolist() == [0, 2, 1]
    assert order(Head("classifier", 2, ("LABEL_1", "LABEL_0")), ("LABEL_0", "LABEL_1")).tolist() == [1, 0]
    for other, labels, said in [
        (head, ("a", "b"), "its labels are b, c, a, but this run lacks c; --labels=FILE"),
        (head, ("a", "b", "x"), "this run also has x"),
        (Head("classifier", 3), ("0", "1"), "its 3 outputs have numbers but no names, and the labels of this run are 0, 1"),
        (Head("classifier", 2), ("negative", "positive"), "outputs have numbers but no names"),
        (Head("classifier", 2, ("LABEL_1", "LABEL_0")), ("0", "1"), "but this run also has 0, 1"),
    ]:
        with pytest.raises(Unfit, match=said):
            order(other, labels)


TAGS = ("I-view", "O", "B-thing", "B-view", "I-thing")
CLASSES = {
    "classify": ("BertForSequenceClassification", "classifier", ("good", "bad", "fine")),
    "tag": ("BertForTokenClassification", "classifier", TAGS),
    "answer": ("BertForQuestionAnswering", "qa_outputs", ()),
    "match": ("BertForSequenceClassification", "classifier", ("LABEL_0",)),
}


def hugging_face(path, task, **config):
    """A directory of transformers' class for the task, and its head's matrix and bias."""
    kind, layer, labels = CLASSES[task]
    size = len(labels) or 2
    head = {f"{layer}.weight": rng.normal(0, 0.3, (size, 16)), f"{layer}.bias": rng.normal(0, 0.3, size)}
    head = {name: array.astype(np.float32) for name, array in head.items()}
    named = {"id2label": {str(i): label for i, label in enumerate(labels)}} if labels else {}
    tensors = {**full_tensors(), **head}
    write_hugging_face(path, tensors, {"num_hidden_layers": 3, "architectures": [kind], **named, **config})
    return path, *head.values()


def built(task, labels, init, **settings):
    """The task's model as a run starts it from a checkpoint."""
    found = open_checkpoint(str(init))
    config = ModelConfig(
        task=task,
        fields=("text",),
        labels=labels,
        options=to_json(dataclasses.replace(tasks.OPTIONS[task](), **settings)),
        encoder=found.encoder,
        text=found.text,
        max_length=40,
    )
    made, encoder, built = build_model(fine_tuned(task), config, VOCABULARY, "float32")
    encoder.load(found.arrays(), str(init))
    starting_head.start(made, built.model, encoder, found, str(init), new=False)
    return built.model


FITTING = {"max_question_length": 4, "doc_stride": 3, "max_answer_length": 5}


def test_transformers_heads_give_transformers_logits(tmp_path):
    with np.load(RECORDED / "transformers.npz", allow_pickle=False) as recorded:
        hidden, pooled = recorded["gelu/sequence"], recorded["gelu/pooled"]
    real = batch()["padding_mask"] == 1

    def logits(model):
        return np.asarray(model(batch()))

    path, matrix, bias = hugging_face(tmp_path / "classify", "classify")
    order = [1, 2, 0]  # of bad, fine, good among good, bad, fine
    assert np.abs(logits(built("classify", ("bad", "fine", "good"), path)) - (pooled @ matrix.T + bias)[:, order]).max() < 2e-5
    path, matrix, bias = hugging_face(tmp_path / "tag", "tag")
    order = [TAGS.index(tag) for tag in ("O", "B-thing", "I-thing", "B-view", "I-view")]
    expected = (hidden @ matrix.T + bias)[..., order]
    assert np.abs(logits(built("tag", ("thing", "view"), path, stride=6)) - expected)[real].max() < 5e-5
    path, matrix, bias = hugging_face(tmp_path / "answer", "answer")
    assert np.abs(logits(built("answer", (), path, **FITTING)) - (hidden @ matrix.T + bias))[real].max() < 5e-5
    path, matrix, bias = hugging_face(tmp_path / "match", "match")
    assert np.abs(logits(built("match", ("0", "1"), path)) - (pooled @ matrix.T + bias)).max() < 2e-5


@pytest.mark.parametrize(
    ("task", "of", "labels", "settings", "config", "said"),
    [
        ("classify", "classify", ("bad", "good"), {}, {}, "this run lacks fine"),
        (
            "classify",
            "classify",
            ("bad", "fine", "good"),
            {"pooling": "cls"},
            {},
            "--pooling=pooler, but this run has --pooling=cls",
        ),
        (
            *("classify", "classify", ("bad", "fine", "good"), {}),
            *({"problem_type": "multi_label_classification"}, "its problem_type is multi_label_classification"),
        ),
        ("tag", "classify", ("thing",), {"stride": 6}, {}, "its classifier is set aside: it belongs to another task"),
        ("tag", "tag", ("thing",), {"stride": 6}, {}, "this run lacks I-view, B-view"),
        (
            "tag",
            "tag",
            ("thing", "view"),
            {"stride": 6, "decoder": "crf"},
            {},
            "--decoder=softmax, but this run has --decoder=crf",
        ),
        ("classify", "answer", ("a", "b"), {}, {}, "its question answering head is set aside: it belongs to another task"),
        ("match", "match", ("0", "5"), {}, {}, "its scores are from 0 to 1, and this run's from 0 to 5"),
        ("match", "match", ("0", "1"), {}, {"problem_type": "regression"}, "--loss=squared_error, but this run has"),
        ("match", "classify", ("0", "1"), {}, {}, "it belongs to another task"),
    ],
)
def test_what_does_not_fit_is_set_aside_by_name(task, of, labels, settings, config, said, tmp_path, caplog):
    path, *_ = hugging_face(tmp_path, of, **config)
    built(task, labels, path, **settings)
    (message,) = [record.message for record in caplog.records]
    assert said in message and message.startswith(f"--init={path}: its ") and message.endswith("starts at random values")


def test_a_head_without_its_pooler_and_one_that_kbert_lacks(tmp_path, caplog):
    tensors = {
        **hugging_face_tensors(),
        "classifier.weight": np.ones((1, 16), np.float32),
        "classifier.bias": np.ones(1, np.float32),
    }
    built("classify", ("a", "b"), write_hugging_face(tmp_path / "a", tensors, {"architectures": ["BertForMultipleChoice"]}))
    assert "classifier.bias belongs to a head that kbert does not have; it is set aside" in caplog.text
    bare = {name: tensor for name, tensor in tensors.items() if not name.startswith("pooler.")}
    built("match", ("0", "1"), write_hugging_face(tmp_path / "b", bare))
    assert "its classifier is set aside: the checkpoint has no pooler, which it reads" in caplog.text


@pytest.mark.parametrize("task", ["tag", "answer"])
def test_heads_are_written_as_transformers_has_them(task, files, model_of, tmp_path, capsys):
    settings = {"decoder": "softmax"} if task == "tag" else {}
    model = model_of(task, **settings)
    assert convert(model, tmp_path / "hf", "hugging_face") == 0
    config = json.loads((tmp_path / "hf" / "config.json").read_text())
    was, found = open_checkpoint(str(model)), open_checkpoint(str(tmp_path / "hf"))
    assert config["architectures"] == [CLASSES[task][0]] and len(config["id2label"]) == found.head.size
    if task == "tag":
        assert list(config["label2id"]) == ["O", "B-thing", "I-thing", "B-view", "I-view"] == list(found.labels)
    assert "heads:          pooler, " + (
        "token classifier of 5 labels (O, B-thing" if task == "tag" else "question answering head\n"
    ) in (checkpoints.summary(found))
    assert {name: array.tolist() for name, array in found.heads().items()} == {n: a.tolist() for n, a in was.heads().items()}
    again = tmp_path / "again"
    assert run(task, files, tmp_path / "hf", again, seed=3, **settings) == 0
    assert ModelDir(again).best().metrics == ModelDir(model).best().metrics
    if task == "answer":
        assert convert(model, tmp_path / "google", "google", "--approximate_gelu") == 0
        google = open_checkpoint(str(tmp_path / "google")).heads()
        assert all(np.array_equal(array, google[name]) for name, array in was.heads().items())
    capsys.readouterr()
    assert convert(model, tmp_path / "keras", "keras_preset", "--approximate_gelu") == 2
    assert (
        f"this form cannot store {'token classifier' if task == 'tag' else 'question answering head'} of"
        in capsys.readouterr().err
    )


def test_a_table_of_more_rows_than_tokens_is_read_again_in_each_form(files, tmp_path, capfd):
    """Five tokens were added to the vocabulary: their rows are kept, through a run and every form, and inspected."""
    tensors = hugging_face_tensors()
    table = tensors["embeddings.word_embeddings.weight"]
    tensors["embeddings.word_embeddings.weight"] = np.concatenate([table, table[:7]])
    path = write_hugging_face(tmp_path / "a", tensors, {"vocab_size": len(VOCABULARY) + 7, "hidden_act": "gelu_new"})
    decoder = {str(len(VOCABULARY) + i): {"content": f"[NEW{i}]"} for i in (0, 1, 2, 3, 5)}
    (path / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": True, "added_tokens_decoder": decoder}))
    model = tmp_path / "model"
    assert run("classify", files, path, model, pooling="pooler") == 0
    capfd.readouterr()
    was = open_checkpoint(str(model))
    for form in checkpoints.FORMATS:
        assert convert(model, tmp_path / form, form, *(["--encoder_only"] if form == "keras_preset" else [])) == 0
        found = open_checkpoint(str(tmp_path / form))
        assert (found.vocabulary, found.text, found.encoder) == (was.vocabulary, was.text, was.encoder)
        assert all(np.array_equal(array, found.arrays()[name]) for name, array in was.arrays().items())
    assert convert(tmp_path / "keras_preset", tmp_path / "again", "hugging_face") == 0
    for init in (model, tmp_path / "again"):
        assert inspect.main([f"--init={init}"]) == 0
        out = capfd.readouterr().out
        assert "47 tokens and 1 unused rows" in out and "added tokens:   [NEW0], [NEW1], [NEW2], [NEW3], [NEW5]\n" in out
    assert run("classify", files, model, tmp_path / "next", seed=3, pooling="pooler") == 0
    assert ModelDir(tmp_path / "next").best().metrics == ModelDir(model).best().metrics
    for place, file in (("google", "vocab.txt"), ("keras_preset", "assets/tokenizer/vocabulary.txt")):
        lines = (tmp_path / place / file).read_text(encoding="utf-8").splitlines(keepends=True)
        (tmp_path / place / file).write_text("".join(lines[:-1]), encoding="utf-8")
        assert inspect.main([f"--init={tmp_path / place}"]) == 1
        assert "40 tokens, but kbert_tokens of tokenizer_config.json is 41" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("task", "settings", "said"),
    [
        ("tag", {}, "cannot store crf of the checkpoint's head"),
        ("match", {"scorer": "dual", "pooling": "mean"}, "cannot represent how --task=match computes its vectors"),
        ("aspect", {"filter": "head"}, "cannot store aspect_attention, aspect_classifier of the checkpoint's head"),
    ],
)
def test_what_has_no_place_is_refused_by_name(task, settings, said, model_of, tmp_path, capfd):
    more = {"filter_units": None, "filter_epochs": None} if task == "aspect" else {}
    model = model_of(task, **settings, **more)
    assert convert(model, tmp_path / "hf", "hugging_face") == 2
    assert f"{said}; --encoder_only writes the encoder only" in capfd.readouterr().err
    assert convert(model, tmp_path / "hf", "hugging_face", "--encoder_only") == 0
    assert open_checkpoint(str(tmp_path / "hf")).heads() == {}
