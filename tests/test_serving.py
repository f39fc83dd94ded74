"""Evaluate, predict and export: one function, the same answers everywhere."""

import gzip
import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from conftest import PATIENCE, ROOT, reviews, tool, wait_for, write_tsv
from forked import program_of
from served import free_port
from tensorflow.core.protobuf import config_pb2, saved_model_pb2
from tensorflow_serving.apis import prediction_log_pb2

from kbert import ask, evaluate, export, finetune, predict, releases, serving
from kbert.data.indexing import open_table
from kbert.errors import DataError
from kbert.model import chunks
from kbert.model_dir import ModelDir
from kbert.serving import certificate, replay, signatures
from kbert.serving import predictor as predictors
from kbert.source import SourceConfig
from kbert.tasks.base import Signature
from kbert.tasks.classify.task import Classify

ODD = ["", "[CLS] good", "x" * 300, "good " * 100, "中文很好", "Café\u0301 \ufffd", "naïve 🎉", "\0", "bad film."]


@pytest.fixture(scope="module")
def predictor(trained):
    return serving.load(trained)


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "model"
    assert export.main([f"--model_dir={trained}", f"--export_dir={path}"]) == 0
    return path


def lines(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_runs_own_dropout_is_that_of_its_encoder_alone(trained):
    config = ModelDir(trained).read_config()[0]
    for dropout, expected in ((None, 0.1), (0.0, 0.0)):
        task, encoder, _ = serving.build_model(Classify, config, ModelDir(trained).vocabulary(), "float32", dropout)
        assert encoder.backbone.embeddings_dropout.rate == encoder.config.dropout == expected
        assert task.config.encoder.dropout == 0.1


def test_evaluate_gives_what_training_measured(trained, data, tmp_path, capsys):
    out = tmp_path / "m.json"
    assert evaluate.main([f"--model_dir={trained}", f"--data={data / 'test.tsv'}", f"--metrics_out={out}"]) == 0
    assert json.loads(out.read_text()) == json.loads((trained / "metrics.json").read_text())["test"]
    assert "test.tsv (40 rows)" in capsys.readouterr().out


def test_evaluate_reads_other_layouts(trained, data, tmp_path):
    rows = [line.split("\t")[::-1] for line in (data / "test.tsv").read_text().splitlines()[1:]]
    (tmp_path / "bare.csv").write_bytes("".join(",".join(row) + "\n" for row in rows).encode("gb18030"))
    out = tmp_path / "m.json"
    flags = [f"--data={tmp_path / 'bare.csv'}", "--columns=y,t", "--text_columns=t", "--label_column=y", "--encoding=gb18030"]
    assert evaluate.main([f"--model_dir={trained}", *flags, f"--metrics_out={out}"]) == 0
    assert json.loads(out.read_text())["accuracy"] == json.loads((trained / "metrics.json").read_text())["test"]["accuracy"]


def test_evaluate_warns_of_rows_that_say_little(trained, tmp_path, capfd):
    path = write_tsv(tmp_path / "one.tsv", [("a good film", "positive"), ("fine", "positive")])
    out = tmp_path / "metrics.json"
    assert evaluate.main([f"--model_dir={trained}", f"--data={path}", f"--metrics_out={out}"]) == 0
    found, seen = json.loads(out.read_text()), capfd.readouterr()
    assert len(found["warnings"]) == 2 and all(f"{path}: {warning}" in seen.err for warning in found["warnings"])
    assert "(one class predicted)" in found["warnings"][0] and "have the label 'positive'" in found["warnings"][1]
    assert found["per_class"]["negative"] == {"precision": None, "recall": None, "f1": None, "rows": 0}
    assert found["accuracy"] == found["macro"]["f1"] == 1 and re.search(r"^negative +- +- +- +0$", seen.out, re.M)


def test_predictions_do_not_depend_on_batch_order_or_chunks(predictor, monkeypatch):
    texts = ODD + [text for text, _ in reviews(40, 9)]
    whole = predictor({"text": tf.constant(texts)})["probabilities"].numpy()
    assert np.allclose(whole.sum(1), 1, atol=1e-5)
    for i in (0, 3, 8, 20):
        assert np.abs(predictor({"text": tf.constant(texts[i : i + 1])})["probabilities"].numpy() - whole[i]).max() < 1e-5
    turned = predictor({"text": tf.constant(texts[::-1])})["probabilities"].numpy()[::-1]
    assert np.abs(turned - whole).max() < 1e-5
    monkeypatch.setattr(predictors, "TOKEN_BUDGET", 30)
    small = serving.Predictor(predictor.task, predictor.model, final=True)({"text": tf.constant(texts)})[
        "probabilities"
    ].numpy()
    assert np.abs(small - whole).max() < 1e-5


def test_no_rows_give_no_answers(predictor):
    answer = predictor({"text": tf.constant([], tf.string)})
    assert answer["label"].shape == (0,) and answer["probabilities"].shape == (0, 2)


def test_chunks_keep_to_the_token_budget(predictor, monkeypatch):
    seen = []
    original = chunks.padded

    def padded(encoded, pad_id):
        batch = original(encoded, pad_id)
        tf.py_function(lambda ids: seen.append(ids.shape), [batch["token_ids"]], [])
        return batch

    monkeypatch.setattr(predictors, "TOKEN_BUDGET", 60)
    monkeypatch.setattr(chunks, "padded", padded)
    serving.Predictor(predictor.task, predictor.model)(
        {"text": tf.constant([text for text, _ in reviews(50)] + ["good " * 90])}
    )
    assert len(seen) > 5 and all(rows * tokens <= 60 for rows, tokens in seen)
    assert sum(rows for rows, _ in seen) == 51


def test_chunks_are_larger_on_an_accelerator(monkeypatch):
    assert predictors.token_budget() == predictors.TOKEN_BUDGET == 2048
    device = tf.config.PhysicalDevice("/physical_device:GPU:0", "GPU")
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda *_: [device])
    assert predictors.token_budget() == 8192


def test_predict_writes_a_line_a_row(trained, predictor, tmp_path):
    path = tmp_path / "in.tsv"
    texts = [text for text in ODD if "\0" not in text and text] + [text for text, _ in reviews(30)]
    write_tsv(path, [(text,) for text in texts], header=("text",))
    out = tmp_path / "out.jsonl"
    assert predict.main([f"--model_dir={trained}", f"--input={path}", f"--output={out}"]) == 0
    found = lines(out)
    assert [(line["row"], line["text"]) for line in found] == list(enumerate(texts, 1))
    direct = predictor({"text": tf.constant(texts)})
    assert [line["label"].encode() for line in found] == direct["label"].numpy().tolist()
    probabilities = [[line["probabilities"][label] for label in ("negative", "positive")] for line in found]
    assert np.abs(np.array(probabilities) - direct["probabilities"].numpy()).max() < 1e-6
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.tsv", "out.jsonl"]


def test_predict_one_text_and_standard_input(trained, capsys, monkeypatch):
    assert predict.main([f"--model_dir={trained}", "--text=a \udcffgood film"]) == 0  # a byte that is no UTF-8 is no text
    one = json.loads(capsys.readouterr().out)
    assert one["label"] == "positive" and one["text"] == "a good film"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a good film\n\na bad film\n")))
    assert predict.main([f"--model_dir={trained}", "--input=-"]) == 0
    three = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["label"] for line in three][::2] == ["positive", "negative"] and three[1]["text"] == ""
    assert three[0]["probabilities"]["positive"] == pytest.approx(one["probabilities"]["positive"], abs=1e-5)


def test_predict_hands_ids_on(trained, tmp_path, capsys):
    path = tmp_path / "in.jsonl"
    path.write_text('{"text": "a good film", "name": "eins"}\n{"name": 2, "text": "a dull plot"}\n')
    flags = [f"--model_dir={trained}", f"--input={path}"]
    assert predict.main([*flags, "--id_column=name"]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["row"], line["id"], line["label"]) for line in found] == [(1, "eins", "positive"), (2, "2", "negative")]
    assert predict.main([*flags, "--id_column=number"]) == 1
    assert "in.jsonl:1: no key 'number'; the object has: text, name" in capsys.readouterr().err
    assert predict.main([flags[0], "--text=x", "--id_column=name"]) == 2
    assert "--id_column: a column of --input" in capsys.readouterr().err


def test_predict_reads_gzipped_txt(trained, tmp_path, capsys):
    (tmp_path / "in.txt.gz").write_bytes(gzip.compress(b"a dull plot\n"))
    assert predict.main([f"--model_dir={trained}", f"--input={tmp_path / 'in.txt.gz'}"]) == 0
    assert json.loads(capsys.readouterr().out)["label"] == "negative"


def test_pairs_are_served_under_both_names(checkpoint, tmp_path, capsys):
    rows = [(a, b, str(int(y == "positive"))) for (a, y), (b, _) in zip(reviews(40), reviews(40, 5), strict=True)]
    data = write_tsv(tmp_path / "p.tsv", rows, header=("a", "b", "y"))
    flags = [f"--init={checkpoint}", f"--train_data={data}", f"--dev_data={data}", "--text_columns=a,b", "--label_column=y"]
    assert finetune.main([*flags, f"--model_dir={tmp_path / 'm'}", "--epochs=1", "--max_length=12"]) == 0
    assert export.main([f"--model_dir={tmp_path / 'm'}", f"--export_dir={tmp_path / 's'}"]) == 0
    serve = tf.saved_model.load(str(tmp_path / "s" / "1")).signatures["serving_default"]
    served = serve(text=tf.constant([rows[0][0]]), text_b=tf.constant([rows[0][1]]))
    capsys.readouterr()
    assert predict.main([f"--model_dir={tmp_path / 'm'}", f"--text={rows[0][0]}", f"--text_b={rows[0][1]}"]) == 0
    line = json.loads(capsys.readouterr().out)
    assert line["text_b"] == rows[0][1] and line["label"].encode() == served["label"].numpy()[0]
    assert line["probabilities"]["1"] == pytest.approx(float(served["probabilities"][0, 1]), abs=1e-6)
    for wrong, message in [
        (["--text=x"], "the model needs --text and --text_b"),
        ([f"--input={data}", "--text_columns=a"], "--text_columns=a: the model reads 2 (text, text_b)"),
    ]:
        assert predict.main([f"--model_dir={tmp_path / 'm'}", *wrong]) == 2
        assert message in capsys.readouterr().err


def test_an_exported_model_gives_the_same_answers(predictor, exported):
    texts = ODD + [text for text, _ in reviews(100, 7)]
    served = tf.saved_model.load(str(exported / "1")).signatures["serving_default"](text=tf.constant(texts))
    direct = predictor({"text": tf.constant(texts)})
    assert set(served) == {"label", "probabilities"}
    assert served["label"].numpy().tolist() == direct["label"].numpy().tolist()
    assert np.abs(served["probabilities"] - direct["probabilities"]).max() < 1e-5


def test_signature_and_contents_of_an_export(exported):
    loaded = tf.saved_model.load(str(exported / "1"))
    assert set(loaded.signatures) == {"serving_default", "classify", "examples", "tokens"}
    serve = loaded.signatures["serving_default"]
    assert serve.structured_input_signature[1] == {"text": tf.TensorSpec([None], tf.string, name="text")}
    assert serve.structured_outputs["label"].shape.as_list() == [None]
    assert serve.structured_outputs["probabilities"].shape.as_list() == [None, 2]
    about = json.loads((exported / "1" / "assets.extra" / "kbert.json").read_text())
    assert about["labels"] == ["negative", "positive"]
    saved = saved_model_pb2.SavedModel.FromString((exported / "1" / "saved_model.pb").read_bytes())
    graph = saved.meta_graphs[0].graph_def
    names = {node.op for node in graph.node} | {node.op for f in graph.library.function for node in f.node_def}
    # One operation of tensorflow-text, an old one, so that older servers know it; no call into Python.
    assert {name for name in names if "Wordpiece" in name or "TFText" in name} == {"FastWordpieceTokenizeWithOffsets"}
    assert not names & {"PyFunc", "EagerPyFunc"}
    # Nor gradients, which TensorFlow would register for good in each process that loads the model.
    nodes = [*graph.node, *(node for f in graph.library.function for node in f.node_def)]
    assert not [node.name for node in nodes if "_gradient_op_type" in node.attr]


def test_strings_of_another_rank_are_refused(exported):
    """By the graph itself: TensorFlow Serving, as this session, passes on what does not have the signature's shape."""
    with tf.compat.v1.Session(graph=tf.Graph()) as session:
        meta = tf.compat.v1.saved_model.load(session, ["serve"], str(exported / "1"))
        serve = meta.signature_def["serving_default"]
        options = config_pb2.CallableOptions(feed=[serve.inputs["text"].name], fetch=[serve.outputs["label"].name])
        run = session._make_callable_from_options(options)
        assert run(np.array([b"good", b"bad"], object))[0].shape == (2,)
        for texts, shape in (([[b"good"], [b"bad"]], "2 1"), (b"good", "")):
            said = rf"input text: expected one string a row, found the shape\] \[{shape}\]"
            with pytest.raises(tf.errors.InvalidArgumentError, match=said):
                run(np.array(texts, object))


def test_versions(trained, exported, tmp_path, capsys):
    path = tmp_path / "s"
    (path / "notes").mkdir(parents=True)
    (path / "7").mkdir()
    assert export.main([f"--model_dir={trained}", f"--export_dir={path}"]) == 0
    assert (path / "8" / "saved_model.pb").exists() and str(path / "8") in capsys.readouterr().out
    assert export.main([f"--model_dir={trained}", f"--export_dir={path}", "--version=3"]) == 0
    assert sorted(p.name for p in path.iterdir()) == ["3", "7", "8", "notes"]
    assert export.main([f"--model_dir={trained}", f"--export_dir={path}", "--version=3"]) == 2
    assert "a served version is never overwritten" in capsys.readouterr().err
    assert export.main([f"--model_dir={trained}", f"--export_dir={path}", "--version=0"]) == 2


def test_an_exported_version_is_no_place_for_versions(trained, exported, capsys):
    assert export.main([f"--model_dir={trained}", f"--export_dir={exported / '1'}"]) == 2
    assert "is itself an exported version" in capsys.readouterr().err


def test_output_to_a_pipe_and_through_a_symlink(trained, tmp_path):
    flags = [f"--model_dir={trained}", "--text=good"]
    os.mkfifo(tmp_path / "pipe")
    reader = subprocess.Popen(["cat", str(tmp_path / "pipe")], stdout=subprocess.PIPE, text=True)
    assert predict.main([*flags, f"--output={tmp_path / 'pipe'}"]) == 0
    assert json.loads(reader.communicate(timeout=PATIENCE)[0])["label"] == "positive"
    assert (tmp_path / "pipe").is_fifo()
    (tmp_path / "target").write_text("old")
    (tmp_path / "link").symlink_to("target")
    assert predict.main([*flags, f"--output={tmp_path / 'link'}"]) == 0
    assert (tmp_path / "link").is_symlink() and lines(tmp_path / "target")[0]["label"] == "positive"
    assert predict.main([*flags, "--output=/dev/null"]) == 0
    assert not Path("/dev/null").is_file()


def test_a_failed_export_leaves_no_version(trained, tmp_path, monkeypatch):
    def fail(self, path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(serving.Predictor, "save", fail)
    assert export.main([f"--model_dir={trained}", f"--export_dir={tmp_path / 's'}"]) == 1
    assert not list((tmp_path / "s").iterdir())


def test_a_certified_export(trained, certified, tmp_path, capfd, forks, environment):
    path = tmp_path / "s"
    data = write_tsv(tmp_path / "real.tsv", [(f"row {'very ' * i}good", "positive") for i in range(40)])
    flags = [f"--model_dir={trained}", f"--export_dir={path}", "--target_serving=2.12", f"--warmup_data={data}"]
    assert export.main(flags) == 0
    shown = capfd.readouterr().out
    assert re.search(r"^serving_default +text string\[-1\] +label string\[-1\], probabilities float32\[-1, 2\]$", shown, re.M)
    assert "a fresh process answers the same" in shown and "TensorFlow Serving has from 2.12 on" in shown
    extra = path / "1" / "assets.extra"
    report = json.loads((extra / "export_report.json").read_text())
    assert report["model"]["labels"] == ["negative", "positive"] and report["versions"]["tensorflow"] == tf.__version__
    assert report["signatures"]["classify"]["method"] == "tensorflow/serving/classify"
    assert report["speed"]["p50_ms"] > 0 and report["operations"]["FastWordpieceTokenizeWithOffsets"] > 0
    golden = [json.loads(line) for line in (extra / "golden.jsonl").read_text(encoding="utf-8").splitlines()]
    default = [request for request in golden if request["signature_name"] == "serving_default"]
    assert [len(request["inputs"]["text"]) for request in default] == [0, 1, len(default[2]["inputs"]["text"])]
    texts = default[2]["inputs"]["text"]
    assert "" in texts and {"b64"} in [text.keys() for text in texts if isinstance(text, dict)]
    of = {name: [r["outputs"] for r in golden if r["signature_name"] == name][-1] for name in report["signatures"]}
    assert of["examples"]["label"] == of["serving_default"]["label"][:4]
    assert np.allclose(of["classify"]["scores"], of["serving_default"]["probabilities"][:4], atol=1e-5)
    assert of["classify"]["classes"] == [["negative", "positive"]] * 4
    assert np.allclose(of["tokens"]["probabilities"], of["serving_default"]["probabilities"][:5], atol=1e-5)

    logs = [
        prediction_log_pb2.PredictionLog.FromString(record.numpy())
        for record in tf.data.TFRecordDataset(str(extra / "tf_serving_warmup_requests"))
    ]
    asked = [log.predict_log.request for log in logs if log.HasField("predict_log")]
    sizes = {request.inputs["text"].tensor_shape.dim[0].size for request in asked if "text" in request.inputs}
    assert len(logs) <= 1000 and {1, 2, 4, 8, 16, 32} <= sizes and any(log.HasField("classify_log") for log in logs)
    warm = {tf.make_ndarray(request.inputs["text"]).tolist()[0] for request in asked if "text" in request.inputs}
    assert {len(text.split()) for text in warm} >= set(range(1, 17)), "texts of every length"
    assert {b"row good", b"row " + b"very " * 39 + b"good"} <= warm

    # Served, it answers the same once more, over REST and gRPC, whatever is asked at once.
    grpc = free_port()
    server = forks.start(program_of("serve"), [f"--export_dir={path}", "--port=0", f"--grpc_port={grpc}"], environment)
    wait_for(lambda: "serving s at" in server.output.read_text(), server)
    rest = re.search(r"http://127.0.0.1:(\d+)", server.output.read_text())[1]
    for address in (f"http://127.0.0.1:{rest}", f"grpc://127.0.0.1:{grpc}"):
        check = [f"--server={address}", "--model=s", f"--check={extra / 'golden.jsonl'}", "--concurrency=4"]
        assert tool("serving_client").main(check) == 0, capfd.readouterr().err
    server.terminate()
    assert server.communicate()[0].endswith("stopped\n") and server.returncode == 0


def test_what_fails_its_certificate_is_not_published(predictor, certified, tmp_path, monkeypatch, capsys):
    def published(**how):
        with pytest.raises(DataError) as error:
            serving.export(predictor, tmp_path / "s", **how)
        assert not list((tmp_path / "s").iterdir())
        return str(error.value)

    monkeypatch.setattr(certificate, "replay_fresh", lambda _: {"differences": 1, "shown": ["request 2"]})
    assert published() == "certificate: 1 golden answers differ in a fresh process: request 2"
    monkeypatch.setattr(certificate, "replay_fresh", lambda _: {"error": "no memory"})
    assert published().endswith("cannot answer the golden requests: no memory")
    monkeypatch.setattr(releases, "since", lambda: {"GatherV2": "2.20", "StringLower": "none"})
    assert published() == "certificate: no release of TensorFlow Serving has StringLower"
    monkeypatch.setattr(releases, "since", lambda: {"GatherV2": "2.20", "StridedSlice.T=DT_INT32": "2.14"})
    assert "--target_serving=2.19: it has no GatherV2; the model needs 2.20 or newer" in published(target_serving="2.19")
    compiled = tf.function(lambda text: {"length": tf.strings.length(text)}, jit_compile=True)
    spec = tf.TensorSpec([None], tf.string, name="text")
    monkeypatch.setattr(signatures, "functions", lambda _: {"serving_default": compiled.get_concrete_function(text=spec)})
    monkeypatch.setattr(Classify, "signatures", lambda self: {"serving_default": Signature(("text",))})
    assert "is compiled by XLA, which a stock TensorFlow Serving refuses" in published()


def test_ids_with_padding_anywhere(predictor):
    def answer(mask, ids=(2, 8, 9, 3)):
        rows = {"token_ids": [ids], "segment_ids": [[0] * 4], "padding_mask": [mask]}
        return predictor.answer_ids({name: tf.constant(row, tf.int32) for name, row in rows.items()})["probabilities"].numpy()

    assert np.allclose(answer([1, 1, 1, 0]), answer([0, 1, 1, 1], (0, 2, 8, 9)), atol=1e-6)
    assert not np.allclose(answer([1, 1, 1, 1]), answer([1, 1, 1, 0]), atol=1e-6)
    for mask, message in (([1, 1, 1], "token_ids and padding_mask differ in shape"), ([0] * 4, "a row has no token")):
        with pytest.raises(tf.errors.InvalidArgumentError, match=message):
            answer(mask)


def test_the_table_of_releases_is_of_this_tensorflow():
    assert tf.__version__.startswith(f"{releases.made_with()}.")
    assert releases.oldest(["TFText>RoundRobinTrim", "MatMul"]) == "2.20" and releases.oldest(["DecodeJxl"]) is None
    assert releases.oldest(["TensorListSetItem", "TensorListSetItem.element_dtype=DT_FLOAT"]) == "2.12"
    assert releases.newer(["TensorListSetItem.resize_if_index_out_of_bounds", "Add"]) == {
        "2.13": ["TensorListSetItem.resize_if_index_out_of_bounds"]
    }


def test_a_replay_finds_what_differs(exported, tmp_path):
    path = shutil.copytree(exported / "1", tmp_path / "1")
    right = {"signature_name": "serving_default", "inputs": {"text": ["good"]}}
    answers = replay.Model(path).run(*replay.Model(path).prepared("serving_default", {"text": ["good"]}))
    outputs = {name: replay.plain(value) for name, value in answers.items()}
    off = {**outputs, "probabilities": [[p + 1e-3 for p in outputs["probabilities"][0]]]}
    lines = [{**right, "outputs": o} for o in (outputs, {**outputs, "label": ["no"]}, off, {"label": outputs["label"]})]
    (path / "assets.extra" / "golden.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = replay.replay(path, 0)
    assert found["requests"] == 4 and found["differences"] == 3 and "wanted" in found["shown"][0]
    assert replay.distance(float("nan"), 1.0) == replay.distance(1, 1.0) == replay.distance([1], []) == float("inf")


def test_versions_are_kept_and_two_exports_at_once_give_two(trained, predictor, tmp_path, monkeypatch):
    rename = os.rename

    def overtaken(source, target):
        monkeypatch.setattr(os, "rename", rename)
        (tmp_path / "s" / "1" / "variables").mkdir(parents=True)  # another export's
        rename(source, target)

    monkeypatch.setattr(serving.Predictor, "save", lambda self, path: (Path(path) / "saved_model.pb").touch())
    monkeypatch.setattr(os, "rename", overtaken)
    assert serving.export(predictor, tmp_path / "s").name == "2"
    for _ in (3, 4):
        assert export.main([f"--model_dir={trained}", f"--export_dir={tmp_path / 's'}", "--keep_versions=2"]) == 0
    assert sorted(path.name for path in (tmp_path / "s").iterdir()) == ["3", "4"]
    assert serving.export(predictor, tmp_path / "s", 1, keep_versions=1).name == "1"
    assert sorted(path.name for path in (tmp_path / "s").iterdir()) == ["1", "4"]

    def deleted(source, target):  # two exports that delete the same version
        if Path(source).name == "4":
            shutil.rmtree(source)
        rename(source, target)

    monkeypatch.setattr(os, "rename", deleted)
    assert serving.export(predictor, tmp_path / "s", keep_versions=1).name == "5"
    assert [path.name for path in (tmp_path / "s").iterdir()] == ["5"]


def test_ask_tool(exported, capsys, environment, monkeypatch):
    command = [sys.executable, str(ROOT / "tools" / "ask.py"), str(exported), "a good film", "bad"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [a["label"] for a in answers] == ["positive", "negative"] and answers[0]["input"] == "a good film"
    for arguments, code in (([], 2), ([str(ROOT / "tests"), "x"], 1), ([str(exported), "a", "b\tc"], 2)):
        monkeypatch.setattr(sys, "argv", ["ask.py", *arguments])
        assert ask.main() == code
    assert "reads 1 texts a row (text), found 2" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "flags", "code", "message"),
    [
        (evaluate, ["--data=x.tsv"], 2, "--model_dir is required"),
        (evaluate, ["--model_dir=none", "--data=x.tsv"], 1, "--model_dir=none: no such directory"),
        (evaluate, ["--model_dir=.", "--data=x.tsv"], 1, "not a kbert model (it has no config.json)"),
        (evaluate, ["--model_dir=MODEL", "--data=x.tsv"], 1, "x.tsv: no such file"),
        (evaluate, ["--model_dir=MODEL", "--data=odd.tsv"], 1, "odd.tsv:2: label 'odd' is not among the model's labels"),
        (
            evaluate,
            ["--model_dir=MODEL", "--data=odd.tsv", "--text_columns=a,b"],
            2,
            "--text_columns=a,b: the model reads 1 (text)",
        ),
        (predict, ["--model_dir=MODEL"], 2, "give one of --input and --text"),
        (predict, ["--model_dir=MODEL", "--text=x", "--input=y"], 2, "give one of --input and --text"),
        (predict, ["--model_dir=MODEL", "--text=x", "--text_b=y"], 2, "the model needs --text alone"),
        (predict, ["--model_dir=MODEL", "--input=x.txt"], 1, "x.txt: no such file"),
        (predict, ["--model_dir=MODEL", "--text_b=x"], 2, "give one of --input and --text"),
        (predict, ["--model_dir=MODEL", "--text=x", "--output=none/out"], 1, "--output=none/out: cannot be written"),
        (predict, ["--model_dir=MODEL", "--text=x", "--output=."], 1, "--output=.: cannot be written: it is a directory"),
        (
            evaluate,
            ["--model_dir=MODEL", "--data=odd.tsv", "--metrics_out=none/m"],
            1,
            "--metrics_out=none/m: cannot be written",
        ),
        (evaluate, ["--model_dir=MODEL", "--data=odd.tsv", "--encoding=idna"], 1, "odd.tsv:2: label 'odd'"),
        (predict, ["--model_dir=MODEL", "--text=x", "--n_best=2"], 2, "--n_best=2: --task=classify has one answer a row"),
        (export, ["--model_dir=MODEL", "--export_dir=x", "--n_best=2"], 2, "--n_best=2: --task=classify has one answer a row"),
        (
            export,
            ["--model_dir=MODEL", "--export_dir=x", "--certify=false", "--target_serving=2.12"],
            2,
            "--target_serving needs the certificate",
        ),
        (
            export,
            ["--model_dir=MODEL", "--export_dir=x", "--certify=false", "--warmup_data=odd.tsv"],
            2,
            "--warmup_data needs the certificate",
        ),
        (export, ["--model_dir=MODEL", "--export_dir="], 2, "--export_dir is empty"),
        (export, ["--model_dir=MODEL", "--export_dir=x", "--version=9223372036854775808"], 2, "--version=9223372036854775808"),
        (export, ["--model_dir=MODEL", "--export_dir=odd.tsv/x"], 1, "--export_dir=odd.tsv/x: cannot be written"),
        (export, ["--model_dir=none", "--export_dir=x"], 1, "--model_dir=none: no such directory"),
    ],
)
def test_mistakes(trained, tmp_path, monkeypatch, capsys, command, flags, code, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "odd.tsv").write_text("text\tlabel\nx\todd\n")
    assert command.main([flag.replace("MODEL", str(trained)) for flag in flags]) == code
    assert message in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["odd.tsv"]


def test_damaged_model_directories(trained, tmp_path, capsys):
    path = tmp_path / "m"
    shutil.copytree(trained, path)
    weights = ModelDir(path).best().path / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-50])
    assert predict.main([f"--model_dir={path}", "--text=x"]) == 1
    assert "weights.safetensors: not readable as safetensors" in capsys.readouterr().err
    (path / "config.json").write_text('{"model": 1}')
    assert predict.main([f"--model_dir={path}", "--text=x"]) == 1
    assert "not written by kbert" in capsys.readouterr().err


def test_memory_of_a_set_of_rows_is_not_held(trained, predictor, tmp_path):
    """Ten thousand rows come through `raw_rows` in parts, in order."""
    from kbert.train import batches as pipeline

    (tmp_path / "f.txt").write_text("".join(f"good {i}\n" for i in range(10_000)))
    table = open_table(str(tmp_path / "f.txt"), SourceConfig(), ("text",), keyed_by=1)
    sizes = [len(raw["text"]) for raw in pipeline.raw_rows(predictor.task, table, gold=False)]
    assert sum(sizes) == 10_000 and max(sizes) <= pipeline.READ_ROWS


def test_long_rows_come_fewer_at_a_time(trained, predictor, tmp_path, monkeypatch):
    from kbert.train import batches as pipeline

    monkeypatch.setattr(pipeline, "READ_BYTES", 1000)
    monkeypatch.setattr(pipeline, "READ_ROWS", 4)
    texts = ["x" * n for n in [10] * 9 + [500, 500, 3000, 20, 400, 700]]
    (tmp_path / "f.txt").write_text("\n".join(texts) + "\n")
    table = open_table(str(tmp_path / "f.txt"), SourceConfig(), ("text",), keyed_by=1)
    parts = [raw["text"].numpy().tolist() for raw in pipeline.raw_rows(predictor.task, table, gold=False)]
    assert [len(text) for part in parts for text in part] == [len(text) for text in texts]
    assert [len(part) for part in parts] == [4, 4, 2, 1, 1, 2, 1]
