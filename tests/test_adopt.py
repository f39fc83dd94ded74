"""Models that other toolkits fine-tuned: adopted, they answer as theirs do (`record_adopted.py`); what cannot be is refused."""

import itertools
import json
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from conftest import ROOT, write_hugging_face
from safetensors.numpy import load_file, save_file
from tiny import (
    ADOPTED,
    CONTEXTS,
    MASKED,
    MODULES,
    PAIRS,
    TEXTS,
    VOCABULARY,
    adopted_config,
    adopted_tensors,
    dense_tensors,
    full_tensors,
)

import kbert
from kbert import adopt, convert, export, finetune, inspect
from kbert.checkpoints.sentence_transformers import other_vectors
from kbert.config import TextConfig
from kbert.data.schemes import chunks
from kbert.errors import DataError
from kbert.model_dir import ModelDir
from kbert.tasks import adoption
from kbert.tasks.adoption import AdoptionFlags
from kbert.tasks.options import TextVector
from kbert.tasks.tag.outputs import Outputs

RECORDED = json.loads((ROOT / "tests" / "recorded" / "adopted.json").read_text(encoding="utf-8"))["answers"]
SETTINGS = {"answers": {"task": "answer", "max_length": 24, "max_question_length": 8, "doc_stride": 4, "max_answer_length": 5}}
SETTINGS["pairs"] = {"text_columns": ["text", "text_b"]}


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """Writes a model of `ADOPTED`, as transformers does."""
    folder = tmp_path_factory.mktemp("foreign")

    def written(name, **config):
        path = folder / f"{name}{''.join(config)}"
        return path if path.exists() else write_hugging_face(path, adopted_tensors(name), {**adopted_config(name), **config})

    return written


def rows(name):
    if name == "answers":
        return [(question, context) for question in ("good film", "x") for context in CONTEXTS]
    return {"cross": PAIRS, "pairs": PAIRS, "masked": MASKED}.get(name, TEXTS)


def bioes(row):
    """Entities from the pipeline's tag of each word; a word's pieces are read by its first."""
    firsts = [tag for tag in row if not tag[1].startswith("##")]
    behind = [*(first[2] for first in firsts[1:]), 1_000][: len(firsts)]
    ends = [max(tag[3] for tag in row if first[2] <= tag[2] < stop) for first, stop in zip(firsts, behind, strict=True)]
    letters = [(tag[0][0], tag[0][2:]) for tag in firsts]
    return [[kind, firsts[start][2], ends[stop - 1]] for start, stop, kind in chunks(letters)]


@pytest.mark.parametrize("name", ADOPTED)
def test_an_adopted_model_answers_as_transformers_does(name, directory, tmp_path):
    model = kbert.adopt(directory(name), tmp_path / "m", **SETTINGS.get(name, {}))
    found, expected = model.predict(list(rows(name))), RECORDED[name]
    for answer, known in zip(found, expected, strict=True):
        if name == "answers":
            assert [answer["answer"], answer["start"], answer["end"]] == known
        elif name == "masked":
            assert [[each["piece"] for each in mask] for mask in answer["masks"]] == [[p for p, _ in mask] for mask in known]
            given = [each["probability"] for mask in answer["masks"] for each in mask]
            assert given == pytest.approx([p for mask in known for _, p in mask], abs=1e-5)
        elif name == "cross":
            assert answer["score"] == pytest.approx(known["LABEL_0"], abs=1e-5)
        elif name == "pairs":
            assert answer["probabilities"] == pytest.approx(known, abs=1e-5) and answer["label"] == max(known, key=known.get)
        else:
            known = bioes(known) if name == "bioes" else known
            assert [[entity[key] for key in ("type", "start", "end")] for entity in answer["entities"]] == known
    assert any(map(bool, expected))


def test_export_of_a_checkpoint_serves_it_and_evaluate_and_finetune_go_on_from_it(directory, tmp_path, capsys):
    init = directory("bioes")
    assert export.main([f"--init={init}", f"--export_dir={tmp_path / 'e'}", "--nocertify"]) == 0
    out = capsys.readouterr().out
    assert "--task=tag: entities of 2 types (view, thing), tagged in BIOES\nreads text, up to 40 tokens\n" in out
    served = tf.saved_model.load(str(tmp_path / "e" / "1")).signatures["serving_default"]
    found = {name: value.numpy() for name, value in served(text=tf.constant(TEXTS)).items()}
    for row, known in enumerate(RECORDED["bioes"]):
        columns = [found[name][row, : found["count"][row]].tolist() for name in ("type", "start", "end")]
        assert [[kind.decode(), *place] for kind, *place in zip(*columns, strict=True)] == bioes(known)

    model, rows = tmp_path / "m", tmp_path / "t.conll"
    assert adopt.main([f"--init={init}", f"--model_dir={model}", "--max_length=24"]) == 0
    rows.write_text("a B-thing\ngood I-thing\n\nfilm B-view\nis O\n\n" * 4)
    assert "f1" in kbert.load(model).evaluate(str(rows))["micro"]
    capsys.readouterr()
    run = ["--task=tag", f"--train_data={rows}", f"--dev_data={rows}", "--epochs=1", "--max_length=24", "--learning_rate=0"]
    assert finetune.main([*run, f"--init={init}", f"--model_dir={tmp_path / 'n'}"]) == 0
    assert "its token classifier is kept\n" in capsys.readouterr().err
    new, old = (ModelDir(path).best().weights()["tagger/kernel"] for path in (tmp_path / "n", model))
    assert np.array_equal(new, old)
    assert ModelDir(tmp_path / "n").read_config()[0].options["outputs"] == list(ADOPTED["bioes"][2])
    assert finetune.main([*run, f"--init={model}", f"--model_dir={model}"]) == 2
    assert finetune.main([*run, f"--init={init}", f"--model_dir={model}"]) == 2
    assert f"holds a model that kbert adopt made; --init={model} with another --model_dir" in capsys.readouterr().err
    assert convert.main([f"--init={model}", f"--output={tmp_path / 'back'}", "--format=hugging_face"]) == 0
    back, was = load_file(tmp_path / "back" / "model.safetensors"), adopted_tensors("bioes")
    assert all(np.array_equal(back[name], was[name]) for name in was)
    assert list(json.loads((tmp_path / "back" / "config.json").read_text())["id2label"].values()) == list(ADOPTED["bioes"][2])
    assert adopt.main([f"--init={init}", f"--model_dir={model}"]) == 2
    assert "holds a model; use --overwrite to replace it" in capsys.readouterr().err
    assert adopt.main([f"--init={init}", f"--model_dir={model}", "--overwrite"]) == 0
    assert ModelDir(model).read_config()[0].max_length == 40


@pytest.fixture
def sentences(tmp_path):
    """Writes the sentence-transformers directory of `MODULES`, with some of its files changed."""

    def written(**files):
        path = write_hugging_face(tmp_path / "st", full_tensors(), {"num_hidden_layers": 3, "architectures": ["BertModel"]})
        for name, content in {**MODULES, **files}.items():
            (path / name).parent.mkdir(exist_ok=True)
            (path / name).write_text(json.dumps(content))
        save_file(dense_tensors(), path / "2_Dense" / "model.safetensors")
        return path

    return written


def test_sentence_vectors_with_a_dense_layer(sentences, tmp_path, capsys, caplog):
    """Those of sentence-transformers: adopted and exported, and by kbert.encode of either directory."""
    init, known = sentences(), np.array(RECORDED["vectors"], np.float32)
    assert inspect.main([f"--init={init}"]) == 0
    (init / "tokenizer_config.json").write_text('{"model_max_length": 8}')  # that of sentence-transformers replaces it
    said = (
        "adopt:          --task=match: the vector of a text (mean, a dense layer to 5 with tanh), and the cosine of two texts'"
    )
    shown = capsys.readouterr().out
    assert said in shown and "up to 12 tokens" in shown
    assert export.main([f"--init={init}", f"--export_dir={tmp_path / 'e'}", "--nocertify"]) == 0
    served = tf.saved_model.load(str(tmp_path / "e" / "1")).signatures
    assert np.abs(served["encode"](text=tf.constant(TEXTS))["vector"].numpy() - known).max() < 1e-5
    score = served["serving_default"](title=tf.constant(TEXTS[:2]), text=tf.constant(TEXTS[1:3]))["score"].numpy()
    unit = known / np.linalg.norm(known, axis=1, keepdims=True)
    assert np.abs(score - (unit[:2] * unit[1:3]).sum(1)).max() < 1e-5
    model = kbert.adopt(init, tmp_path / "m")
    assert np.abs(kbert.encode(init, list(TEXTS)) - known).max() < 1e-5
    assert np.abs(kbert.encode(model, list(TEXTS)) - known).max() < 1e-5
    rows = [(a, b) for a, b in itertools.pairwise(TEXTS) if a and b]
    to = {"model_dir": tmp_path / "n", "train_data": rows, "dev_data": rows, "epochs": 0, "max_length": 12}
    with caplog.at_level("WARNING"):
        kbert.train(task="match", scorer="dual", init=str(model.path), **to)
    assert "own vectors" not in caplog.text
    assert np.abs(kbert.encode(tmp_path / "n", list(TEXTS)) - known).max() < 1e-5
    said = other_vectors(str(init), TextConfig(lowercase=True, strip_accents=True), TextVector("mean", "head"))
    assert "its own vectors (mean, a dense layer to 5 with tanh) are set aside" in said and "kbert adopt makes" in said


def test_sentence_vectors_that_are_refused(sentences, capsys, tmp_path):
    pooling, dense = MODULES["1_Pooling/config.json"], MODULES["2_Dense/config.json"]
    for files, said in [
        ({"1_Pooling/config.json": {**pooling, "pooling_mode_cls_token": True}}, "it joins the poolings cls and mean"),
        ({"config_sentence_transformers.json": {"similarity_fn_name": "dot"}}, "has similarity_fn_name dot, and --scorer=dual"),
        (
            {"config_sentence_transformers.json": {"default_prompt_name": "q", "prompts": {"q": "ask: "}}},
            "default_prompt_name q",
        ),
        ({"2_Dense/config.json": {**dense, "activation_function": "torch.nn.SiLU"}}, "activation_function is SiLU; kbert"),
        ({"2_Dense/config.json": {**dense, "out_features": 6}}, "linear.weight does not have 6 finite rows"),
        ({"2_Dense/config.json": {**dense, "bias": False}}, "expected linear.weight"),
        (
            {"2_Dense/config.json": {**dense, "module_input_name": "token_embeddings"}},
            "module_input_name is 'token_embeddings'",
        ),
    ]:
        assert adopt.main([f"--init={sentences(**files)}", f"--model_dir={tmp_path / 'm'}", "--overwrite"]) == 1
        assert said in capsys.readouterr().err
        (tmp_path / "st" / "config_sentence_transformers.json").unlink(missing_ok=True)


def test_googles_classifier_and_names_of_its_outputs(directory, tmp_path, capsys):
    init = directory("pairs", hidden_act="gelu_new", id2label={str(i): f"LABEL_{i}" for i in range(3)})
    assert convert.main([f"--init={init}", f"--output={tmp_path / 'google'}", "--format=google"]) == 0
    (tmp_path / "names.txt").write_text("no\nyes\n?\n")
    given = [f"--init={tmp_path / 'google'}", f"--model_dir={tmp_path / 'm'}"]
    assert adopt.main(given) == 0
    assert "one of 3 labels (LABEL_0, LABEL_1, LABEL_2)" in capsys.readouterr().out
    assert adopt.main([*given, "--overwrite", f"--labels={tmp_path / 'names.txt'}", "--text_columns=a,b"]) == 0
    model, train = ModelDir(tmp_path / "m").read_config()
    assert model.labels == ("no", "yes", "?") and model.fields == ("text", "text_b") and train.source.text_columns == ("a", "b")
    weights = ModelDir(tmp_path / "m").best().weights()
    np.testing.assert_array_equal(weights["classifier/kernel"], adopted_tensors("pairs")["classifier.weight"].T)
    (tmp_path / "names.txt").write_text("no\nyes\n")
    assert adopt.main([*given, "--overwrite", f"--labels={tmp_path / 'names.txt'}"]) == 2
    assert "names.txt: 2 labels, but the classifier has 3 outputs" in capsys.readouterr().err


MANY = {str(i): f"LABEL_{i}" for i in range(5)}


@pytest.mark.parametrize(
    ("name", "config", "flags", "said"),
    [
        ("pairs", {"problem_type": "regression"}, [], "problem_type is regression, with 3 outputs, and --objective=regression has one"),
        ("pairs", {"problem_type": "ranking"}, [], "problem_type is 'ranking'; expected one of single_label_classification"),
        ("pairs", {"architectures": []}, [], "config.json has no architectures"),
        ("pairs", {"id2label": {"0": "a", "1": "b"}}, [], "id2label names 2 labels, but the classifier has 3 outputs"),
        ("pairs", {"id2label": {"0": "a", "1": "b", "2": " "}}, [], "labels: expected text without line ends"),
        ("pairs", {"architectures": ["BertForMultipleChoice"]}, [], "tensor 'classifier.bias' belongs to a head that kbert does not"),
        ("pairs", {}, ["--max_length=41"], "--max_length=41: the checkpoint has positions for 40 tokens"),
        ("pairs", {}, ["--task=tag"], "its classifier is not one of --task=tag"),
        ("pairs", {}, ["--task=classify", "--objective=multilabel"], "--objective=multilabel: the checkpoint's head has multiclass"),
        ("pairs", {}, ["--text_columns=a,b,c"], "--text_columns=a,b,c: the model reads 1 (text)"),
        ("pairs", {}, ["--stride=3"], "unknown flag --stride (it belongs to --task=classify"),
        ("cross", {"sentence_transformers": {}}, [], "may be read in two ways, and no file says which: --task=classify for a number"),
        ("cross", {"sentence_transformers": {"activation_fn": "torch.nn.Tanh"}}, [], "sentence-transformers applies Tanh"),
        ("iob", {"id2label": MANY}, [], "outputs have numbers but no names, so which is O is not known"),
        ("iob", {"id2label": {**MANY, "0": "B-x", "1": "E-x", "2": "L-x", "3": "O", "4": "I-x"}}, [], "expected are those of one scheme"),
        ("answers", {}, ["--task=answer"], "--max_length=40 leaves -27 tokens of context beside a question"),
    ],
)  # fmt: skip
def test_what_cannot_be_served_exactly_is_refused_with_the_reason(name, config, flags, said, directory, tmp_path, capsys):
    init = write_hugging_face(tmp_path / "x", adopted_tensors(name), {**adopted_config(name), **config})
    code = adopt.main([f"--init={init}", f"--model_dir={tmp_path / 'm'}", *flags])
    assert code in (1, 2) and said in capsys.readouterr().err
    assert not (tmp_path / "m" / "config.json").exists()


def test_what_is_no_fine_tuned_checkpoint_of_another_toolkit(checkpoint, trained, directory, tmp_path, capsys):
    to = f"--model_dir={tmp_path / 'm'}"
    assert adopt.main([f"--init={checkpoint}", to]) == 1
    assert "has no head: kbert finetune trains one, and kbert encode serves vectors" in capsys.readouterr().err
    assert adopt.main([f"--init={trained}", to]) == 2
    assert f"is a kbert model already; use --model_dir={trained}" in capsys.readouterr().err
    tensors = {**adopted_tensors("iob"), "crf.transitions": np.zeros((5, 5), np.float32)}
    assert adopt.main([f"--init={write_hugging_face(tmp_path / 'crf', tensors, adopted_config('iob'))}", to]) == 1
    assert "its token classifier cannot be served exactly: tensor 'crf.transitions'" in capsys.readouterr().err
    untied = {**adopted_tensors("masked"), "cls.predictions.decoder.weight": np.ones((len(VOCABULARY), 16), np.float32)}
    assert adopt.main([f"--init={write_hugging_face(tmp_path / 'untied', untied, adopted_config('masked'))}", to]) == 1
    assert "it cannot be served exactly: the masked LM's decoder is not tied to the token" in capsys.readouterr().err
    bare = write_hugging_face(tmp_path / "bare", adopted_tensors("iob"), adopted_config("iob"))
    (bare / "vocab.txt").unlink()
    assert adopt.main([f"--init={bare}", to]) == 1
    assert f"{bare / 'vocab.txt'}: no such file" in capsys.readouterr().err
    for given in ([], [f"--init={bare}", f"--model_dir={trained}"]):
        assert export.main([*given, f"--export_dir={tmp_path / 'e'}"]) == 2
        assert "give one of --model_dir, a model of kbert, and --init" in capsys.readouterr().err
    assert export.main([f"--model_dir={trained}", f"--export_dir={tmp_path / 'e'}", "--labels=x"]) == 2
    assert "--labels goes with --init; the model in --model_dir=" in capsys.readouterr().err


def test_mistakes_are_found_before_tensorflow_is_imported(directory, tmp_path, environment):
    init = directory("iob", id2label=MANY)
    program = (
        "import sys; from kbert import export; "
        f"code = export.main(['--init={init}', '--export_dir={tmp_path / 'e'}']); sys.exit(code + 10 * ('tensorflow' in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True).returncode == 1


def test_settings_that_the_files_state(directory, tmp_path):
    settings = {"model_max_length": 16, "truncation_side": "left"}
    init = write_hugging_face(tmp_path / "x", adopted_tensors("pairs"), adopted_config("pairs"), settings)
    found = adoption.read(str(init), AdoptionFlags()).config
    assert found.max_length == 16 and found.options["long_text"] == "tail" and found.fields == ("text",)
    crossed = write_hugging_face(tmp_path / "y", adopted_tensors("cross"), adopted_config("cross"), settings)
    with pytest.raises(DataError, match="truncation_side left, and --task=match cuts"):
        adoption.read(str(crossed), AdoptionFlags())
    identity = {"sbert_ce_default_activation_function": "torch.nn.modules.linear.Identity", "sentence_transformers": None}
    found = adoption.read(str(directory("cross", **identity)), AdoptionFlags()).config
    assert found.fields == ("text", "text_b") and found.options["objective"] == "regression"


def test_outputs_of_taggers():
    io = Outputs.read(("PER", "O", "LOC"))
    assert io.kinds == (0, -1, 1) and io.letters == ("I", "O", "I") and not io.plain and io.lacking is None
    assert Outputs.read(("I_PER", "O", "B_PER")).plain and Outputs.read(("o", "b-x", "i-x")).names == ("O", "B-x", "I-x")
    assert Outputs.read(("B", "I", "O")).types == ("_",)
    assert Outputs.read(("I-x", "O")).lacking == "B-x" and Outputs.read(("NOUN", "VERB")).letters == ("S", "S")
    bmes = Outputs.read(("B-x", "M-x", "E-x", "S-x", "O"), ("x",))
    tags, words = (
        np.array([1, 2, 2, 1, 0, 1, 2, 1]),
        np.array([5, 3]),
    )  # begin, inside, inside, alone, outside; begin, end, alone
    assert bmes.numbers(tags, words).tolist() == [0, 1, 2, 3, 4, 0, 2, 3]
    assert io.numbers(np.array([1, 2, 0, 3, 3]), np.array([5])).tolist() == [0, 0, 1, 2, 2]
    for labels, said in (
        (("B-x", "I-x", "X", "O"), "expected are those of one scheme"),
        (("o", "O", "b-x"), "the same tag as"),
    ):
        with pytest.raises(ValueError, match=said):
            Outputs.read(labels)


@pytest.mark.parametrize("name", ["iob", "pairs"])
def test_inspect_names_head_and_labels(name, directory, capsys):
    assert inspect.main([f"--init={directory(name)}"]) == 0
    out = capsys.readouterr().out
    assert {"iob": "token classifier of 5 labels (I-view, O, B-thing, ", "pairs": "classifier of 3 labels (no, yes, ?)"}[
        name
    ] in out
    assert {"iob": "--task=tag: entities of 2 types", "pairs": "--task=classify: one of 3 labels"}[name] in out
