"""What long texts say of aspects: filters, the two stages of training, what is answered and served."""

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tiny
from conftest import finetune_flags, write_hugging_face

from kbert import ask, evaluate, export, finetune, predict, serving
from kbert.data.indexing import open_table
from kbert.model_dir import ModelDir
from kbert.source import SourceConfig

ASPECTS = ("film_music", "film_plot")
SAID = {"1": "good", "-1": "bad"}


def review(rng: np.random.Generator) -> tuple[str, dict[str, str]]:
    """A text of many sentences, of which one or none speaks of each aspect, none of the first; and what it says."""
    sentences = [f"a {word} is very {other}." for word, other in rng.choice(["cafe", "e", "s", "x", "un"], (6, 2))]
    labels = dict.fromkeys(ASPECTS, "-2")
    for aspect, word in zip(ASPECTS, ("film", "plot"), strict=True):
        if rng.random() < 0.5:
            labels[aspect] = str(rng.choice(list(SAID)))
            sentences.insert(int(rng.integers(4, len(sentences) + 1)), f"the {word} is {SAID[labels[aspect]]}.")
    return " ".join(sentences), labels


def write_wide(path: Path, rows: int, seed: int) -> Path:
    rng = np.random.default_rng(seed)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["id", "text", *ASPECTS])
        writer.writeheader()
        for number in range(rows):
            text, labels = review(rng)
            writer.writerow({"id": number, "text": text, **labels})
    return path


@pytest.fixture(scope="module")
def wide(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wide")
    for name, rows, seed in (("train", 240, 1), ("dev", 60, 2), ("test", 60, 3)):
        write_wide(folder / f"{name}.csv", rows, seed)
    (folder / "names.txt").write_text("film_music\tfilm\tfilm\nfilm_plot\tplot\tplot\n", encoding="utf-8")
    return folder


def flags(checkpoint: Path, wide: Path, model_dir: Path, **more: object) -> list[str]:
    settings = {
        "train_data": wide / "train.csv",
        "dev_data": wide / "dev.csv",
        "label_column": ",".join(ASPECTS),
        "aspect_names": wide / "names.txt",
        "filter": "tfn",
        "filter_units": 8,
        "filter_learning_rate": 0.02,
        "filter_epochs": 8,
        "filter_dropout": 0,
        "filter_threshold": 0.3,
        "max_length": 24,
        "epochs": 10,
        "learning_rate": 0.005,
        **more,
    }
    return ["--task=aspect", *finetune_flags(checkpoint, wide, model_dir, **settings)]


@pytest.fixture(scope="module")
def trained(checkpoint, wide, tmp_path_factory) -> Path:
    """A model directory of a run that was interrupted behind the first checkpoint of its filter, and went on."""
    path = tmp_path_factory.mktemp("aspect") / "model"
    arguments = flags(checkpoint, wide, path, test_data=wide / "test.csv")

    def interrupted(self, *values, **named):
        saved = save(self, *values, **named)
        raise KeyboardInterrupt(saved)

    save = ModelDir.save
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ModelDir, "save", interrupted)
        # These are about the model, not about its filter.
        assert finetune.main([*arguments, "--evaluate_steps=4", "--early_stopping_patience=1", "--loss_limit=3"]) == 130
    assert [saved.epoch for saved in ModelDir(path).stage("filter").checkpoints()] == [1]
    assert ModelDir(path).last() is None
    first = (path / "stages/filter/checkpoints/step-00000015/weights.safetensors").stat().st_mtime_ns
    assert finetune.main(arguments) == 0
    kept = path / "stages/filter/checkpoints/step-00000015/weights.safetensors"
    assert not kept.exists() or kept.stat().st_mtime_ns == first, "what was done is not done again"
    return path


@pytest.fixture(scope="module")
def predictor(trained):
    return serving.load(trained)


def answers(predictor, *texts: str) -> list[dict]:
    decoded = {name: value.numpy() for name, value in predictor({"text": tf.constant(texts)}).items()}
    return [predictor.task.present(decoded, row)["aspects"] for row in range(len(texts))]


def test_both_stages_learn(trained):
    metrics = json.loads((trained / "metrics.json").read_text())
    assert metrics["test"]["mentioned_f1"] > 0.75 and metrics["test"]["macro_f1"] > 0.7, metrics["test"]
    assert ModelDir(trained).stage("filter").best().metrics["average_precision"] > 0.95
    assert list(metrics["test"]["per_aspect"]) == list(ASPECTS)


def test_the_filter_is_frozen_behind_its_stage(trained):
    _, weights = ModelDir(trained).best_weights()
    _, stage = ModelDir(trained).stage("filter").best_weights()
    assert set(stage) <= set(weights) and all(np.array_equal(weights[name], stage[name]) for name in stage)
    embeddings = next(name for name in stage if "embedding" in name)
    assert not np.array_equal(weights[embeddings], next(weights[n] for n in weights if n.startswith("token_embedding")))


def test_the_sentences_that_were_read_are_told(predictor):
    text = "a cafe is very x. a s is very e. the plot is bad. a x is very un. the film is good! a cafe is very s."
    (found,) = answers(predictor, text)
    assert {name: found[name]["label"] for name in ASPECTS} == {"film_music": "positive", "film_plot": "negative"}
    for name, sentence in (("film_music", "the film is good!"), ("film_plot", "the plot is bad.")):
        kept = found[name]["sentences"]
        assert all(text[each["start"] : each["end"]] == each["text"] for each in kept)
        assert max(kept, key=lambda each: each["relevance"])["text"] == sentence
        assert [each["start"] for each in kept] == sorted(each["start"] for each in kept)
        assert sum(found[name]["probabilities"].values()) == pytest.approx(1, abs=1e-5)


def test_any_text_is_answered(predictor):
    strange = ["", "  \n", "中" * 5000, "good. " * 10_000, "the film is good"]
    found = answers(predictor, *strange)
    (alone,) = answers(predictor, strange[4])
    for name in ASPECTS:
        ours, its = (list(answer[name]["probabilities"].values()) for answer in (found[4], alone))
        assert np.allclose(ours, its, atol=1e-5), "a text's answer is its own"
    assert not found[0]["film_plot"]["sentences"] and not found[1]["film_plot"]["sentences"]
    for text, answer in zip(strange, found, strict=True):
        for each in answer["film_plot"]["sentences"]:
            assert each["text"] and text[each["start"] : each["end"]] == each["text"]
    assert 1 <= len(found[2]["film_plot"]["sentences"]) < 24
    assert 1 <= len(found[3]["film_plot"]["sentences"]) < 24


def test_the_board_shows_sentences(trained):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(trained / "tb"), size_guidance={"tensors": 0})
    events.Reload()
    panel = events.Tensors("dev/sentences")[-1].tensor_proto.string_val[0].decode()
    assert "| sentence | relevance film | relevance plot |" in panel and " ●" in panel and "| film\\_music |" in panel


def test_commands(trained, wide, tmp_path, capsys):
    assert evaluate.main([f"--model_dir={trained}", f"--data={wide / 'test.csv'}", f"--metrics_out={tmp_path / 'm.json'}"]) == 0
    said = capsys.readouterr().out
    assert "film_plot" in said and "no neutral" not in said and "mentioned f1" in said
    assert json.loads((tmp_path / "m.json").read_text()) == json.loads((trained / "metrics.json").read_text())["test"]
    swapped = [f"--model_dir={trained}", f"--data={wide / 'test.csv'}", f"--label_column={', '.join(reversed(ASPECTS))}"]
    assert evaluate.main(swapped) == 0 and capsys.readouterr().out == said
    (tmp_path / "other.csv").write_text((wide / "test.csv").read_text().replace("film_music,film_plot", "x,y", 1))
    assert evaluate.main([f"--model_dir={trained}", f"--data={tmp_path / 'other.csv'}", "--label_column=x,y"]) == 0
    assert "--label_column: x is read as film_music, y is read as film_plot" in capsys.readouterr().err
    assert evaluate.main([f"--model_dir={trained}", f"--data={wide / 'test.csv'}", "--label_column=film_plot"]) == 2
    assert "--label_column names 1 columns, the model has" in capsys.readouterr().err
    assert predict.main([f"--model_dir={trained}", "--text=the plot is bad."]) == 0
    line = json.loads(capsys.readouterr().out)
    assert line["text"] == "the plot is bad." and line["aspects"]["film_plot"]["label"] == "negative"
    assert finetune.main([*flags_of(trained), "--filter_units=9"]) == 2
    assert "has a run with filter_units 8, not 9; use --overwrite" in capsys.readouterr().err


def flags_of(trained: Path) -> list[str]:
    """The command that trained a model."""
    train = json.loads((trained / "config.json").read_text())["train"]
    folder = Path(train["train_data"]).parent
    return flags(Path(train["init"]), folder, trained, test_data=folder / "test.csv")


def test_served(trained, predictor, tmp_path, monkeypatch, capfd):
    text = "a cafe is very x. the plot is bad. the film is good."
    assert export.main([f"--model_dir={trained}", f"--export_dir={tmp_path / 'e'}"]) == 0
    served = tf.saved_model.load(str(tmp_path / "e/1")).signatures
    (expected,) = answers(predictor, text)
    found = {name: value.numpy()[0] for name, value in served["serving_default"](text=tf.constant([text])).items()}
    assert [name.decode() for name in found["aspect"]] == list(ASPECTS)
    for place, name in enumerate(ASPECTS):
        assert found["label"][place].decode() == expected[name]["label"]
        assert np.allclose(found["probabilities"][place], list(expected[name]["probabilities"].values()), atol=1e-5)
        kept = [sentence.decode() for sentence in found["sentences"][place][: found["count"][place]]]
        assert kept == [each["text"] for each in expected[name]["sentences"]]
        # The aspect by its name or by what is read for it.
        for asked in (name, ("film", "plot")[place]):
            pair = served["pair"](text=tf.constant([text] * 2), aspect=tf.constant([asked] * 2))
            assert np.allclose(pair["probabilities"][1], found["probabilities"][place], atol=1e-5)
            assert [answered.decode() for answered in pair["aspect"].numpy()] == [name] * 2
            assert pair["sentences"].shape[0] == 2 and len(pair["sentences"].shape) == 2
    monkeypatch.setattr(sys, "argv", ["ask", str(tmp_path / "e"), "--signature=pair", f"{text}\tfilm_plot"])
    assert ask.main() == 0, "the text comes first"
    assert json.loads(capfd.readouterr().out.splitlines()[-1])["label"] == expected["film_plot"]["label"]
    with pytest.raises(tf.errors.InvalidArgumentError, match="aspects are film_music, film_plot; found"):
        served["pair"](text=tf.constant([text]), aspect=tf.constant(["sound"]))


def open_table_of(path: Path):
    source = SourceConfig(text_columns=("review", "about"))
    return open_table(str(path), source, ("review", "about", "label"), keyed_by=2, split_by=slice(1))


def test_both_layouts_teach_the_filter_the_same(checkpoint, wide, tmp_path, capsys, monkeypatch):
    with (wide / "train.csv").open(encoding="utf-8") as file:
        rows = [(row["text"], name, row[name]) for row in csv.DictReader(file) for name in ASPECTS]
    lines = [json.dumps(dict(zip(("review", "about", "label"), row, strict=True))) for row in rows]
    (tmp_path / "train.jsonl").write_text("".join(line + "\n" for line in lines))
    long = {
        "train_data": tmp_path / "train.jsonl",
        "dev_data": tmp_path / "train.jsonl",
        "text_columns": "review,about",
        "label_column": "label",
    }
    weights = []
    for name, more in (("wide", {}), ("long", long)):
        assert finetune.main(flags(checkpoint, wide, tmp_path / name, **{**more, "filter": "lexical", "epochs": 0})) == 0
        weights.append(ModelDir(tmp_path / name).best_weights()[1]["word_weights/table"])
    assert np.array_equal(*weights) and weights[0].any()

    def stop(_run):
        raise KeyboardInterrupt

    monkeypatch.setattr("kbert.train.run.Run.fit", stop)
    assert finetune.main(flags(checkpoint, wide, tmp_path / "tfn", **long, filter_epochs=2, epochs=0)) == 130
    assert "first the filter: 30 steps" in capsys.readouterr().err  # 240 texts, 16 of them a step


def test_rows_that_name_their_aspect(checkpoint, wide, tmp_path, capsys):
    """Text, aspect and label a row, with the aspects known: the lexical filter, and one input a row."""
    for split in ("train", "dev"):
        with (wide / f"{split}.csv").open(encoding="utf-8") as file:
            rows = [(row["text"], name, row[name]) for row in csv.DictReader(file) for name in ASPECTS]
        lines = [json.dumps(dict(zip(("review", "about", "label"), row, strict=True))) for row in rows]
        (tmp_path / f"{split}.jsonl").write_text("".join(line + "\n" for line in lines))
    sources = {f"{split}_data": tmp_path / f"{split}.jsonl" for split in ("train", "dev")}
    (tmp_path / "names.txt").write_text("film_music\ta very very very very very film\tfilm\nfilm_plot\tplot\tplot\n")
    settings = {"text_columns": "review,about", "label_column": "label", "filter": "lexical", "steps": 4, "pooling": "cls"}
    settings["aspect_names"] = tmp_path / "names.txt"
    arguments = flags(checkpoint, wide, tmp_path / "m", **{**sources, **settings})
    assert finetune.main(arguments) == 0
    said = capsys.readouterr()
    assert "--filter=lexical ignores --filter_threshold, --filter_units, --filter_dropout" in said.err and "ignores" in said.err
    assert "480 rows are read in 480 windows" in said.err and "--filter=lexical keeps" in said.err
    assert "240 rows are read" not in said.err and len(open_table_of(tmp_path / "train.jsonl").deduplicated()) == 240
    assert "of 'film_music' only the first 6 tokens are read, a quarter of --max_length" in said.err
    figures = json.loads((tmp_path / "m/metrics.json").read_text())["dev"]
    assert figures["rows"] == 120 and {row["rows"] for row in figures["per_aspect"].values()} == {60}
    text = "a cafe is very x. a s is very e. the plot is bad. a x is very un. the film is good!"
    asked = [f"--model_dir={tmp_path / 'm'}", f"--text={text}"]
    assert predict.main([*asked, "--text_b=film_plot"]) == 0
    answer = json.loads(capsys.readouterr().out)
    best = max(answer["sentences"], key=lambda each: each["relevance"])
    assert best["text"] == "the plot is bad." and set(answer["probabilities"]) == {"negative", "positive", "not mentioned"}
    assert predict.main([*asked, "--text_b=sound"]) == 1
    assert "aspects are film_music, film_plot; found sound\n" in capsys.readouterr().err
    predictor = serving.load(tmp_path / "m")
    assert list(predictor.task.signatures()["serving_default"].fields) == ["text"]
    rows = [(text, "film_plot"), ("the film is bad.", "film_music"), (text, "film_music")]
    raw = dict(zip(("text", "aspect"), (tf.constant(column) for column in zip(*rows, strict=True)), strict=True))
    encoded = predictor.task.encode(raw)
    assert encoded["texts"].shape == (2,) and encoded["text"].numpy().tolist() == [0, 1, 0], "a text is filtered once"
    together = predictor(raw)
    for place, row in enumerate(rows):
        alone = predictor({name: tf.constant([value]) for name, value in zip(raw, row, strict=True)})
        ours, own = ({name: value.numpy() for name, value in found.items()} for found in (together, alone))
        assert np.allclose(ours["probabilities"][place], own["probabilities"][0], atol=1e-5)
        ours, own = predictor.task.present(ours, place), predictor.task.present(own, 0)
        assert [(s["start"], s["text"]) for s in ours["sentences"]] == [(s["start"], s["text"]) for s in own["sentences"]]


CHINESE = ("电影_好", "电影_坏", "中文_好")


@pytest.mark.parametrize("how", ["lexical", "random"])
def test_chinese_rows_of_fine_aspects(checkpoint, tmp_path, capsys, how):
    """A file as Excel writes it; fine aspects of one coarse aspect read the same sentences of a text."""
    rows = [("电影很好。中文很坏！", 1, -2, -1), ("很好，很好。电影坏", -2, -1, -2), ("中文很好。坏？很坏。", -2, -2, 1)] * 8
    lines = [",".join(("评论", *CHINESE)), *(",".join(map(str, row)) for row in rows)]
    (tmp_path / "x.csv").write_text("\r\n".join(lines), encoding="utf-8-sig")
    source = {"train_data": tmp_path / "x.csv", "dev_data": tmp_path / "x.csv", "text_columns": "评论"}
    more = {"label_column": ",".join(CHINESE), "aspect_names": None, "filter": how, "epochs": int(how == "lexical")}
    assert finetune.main(flags(checkpoint, tmp_path, tmp_path / "m", **source, **more, max_length=16)) == 0
    text = "很，" * 20 + "。电影很好。很很坏。中文很坏。"
    capsys.readouterr()
    assert predict.main([f"--model_dir={tmp_path / 'm'}", f"--text={text}"]) == 0
    found = json.loads(capsys.readouterr().out)["aspects"]
    assert list(found) == list(CHINESE) and found[CHINESE[0]]["sentences"] == found[CHINESE[1]]["sentences"]
    kept = {name: [each["text"] for each in found[name]["sentences"]] for name in CHINESE}
    if how == "lexical":
        assert "电影很好。" in kept[CHINESE[0]] and "中文很坏。" in kept[CHINESE[2]]
    else:
        assert {each["relevance"] for each in found[CHINESE[0]]["sentences"]} == {0}, "a place is no relevance"


def test_terms_of_short_texts(checkpoint, wide, tmp_path, capsys):
    rows = [("the $T$ is good .", "film", 1), ("a $T$ is bad , the film is fine .", "plot", -1)] * 16
    file = tmp_path / "terms.seg"
    file.write_text("".join(f"{text}\n{term}\n{label}\n" for text, term, label in rows))
    settings = {"train_data": file, "dev_data": file, "text_columns": "text,aspect", "label_column": "label"}
    settings |= {"aspect_names": None, "filter": None, "steps": 2}
    assert finetune.main(flags(checkpoint, wide, tmp_path / "m", **settings)) == 0
    said = capsys.readouterr()
    assert "--filter=lexical keeps" in said.err and "mentioned f1" not in said.out and "accuracy" in said.out
    assert predict.main([f"--model_dir={tmp_path / 'm'}", "--text=a cafe is dull. the film is good.", "--text_b=film"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert [each["relevance"] for each in answer["sentences"]] == [0, 1] and answer["aspect"] == "film"
    assert set(serving.load(tmp_path / "m").task.signatures()["serving_default"].fields) == {"text", "aspect"}
    assert predict.main([f"--model_dir={tmp_path / 'm'}", "--text=声. a film.", "--text_b=音 film"]) == 0
    relevance = [each["relevance"] for each in json.loads(capsys.readouterr().out)["sentences"]]
    assert relevance == [0, 1], "what the vocabulary does not know is not the same"
    assert predict.main([f"--model_dir={tmp_path / 'm'}", "--text=a cafe is dull.", "--text_b= "]) == 1
    assert "an aspect is empty\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("rows", "changed", "code", "message"),
    [
        (["good. bad.,1,5"], {}, 1, "bad.csv:2: aspect 'film_plot': label '5', allowed are -1 or negative, 0 or neutral"),
        (["good.,1,"], {}, 1, "bad.csv:2: aspect 'film_plot': label '', allowed are"),
        (["good.,-2,-2", "bad,-2,-2"], {}, 1, "bad.csv: no aspect is mentioned in any row (every label is -2)"),
        (["good.,1,1", "bad,1,-1"], {}, 2, "--filter=tfn: no row is labelled -2"),
        (["good.,1,-2"], {"label_column": "film_music,film_acts"}, 1, "no line for aspect 'film_acts'"),
        (["good.,1,-2"], {"label_column": "film_music,film_acts", "aspect_names": None}, 1, "no column 'film_acts'"),
        (["good.,1,-2", "bad.,-2,1"], {"aspect_names": "same.txt"}, 1, "aspects 'film_music' and 'film_plot' both read as '[UNK]'"),
        (["good.,1,-2", "bad.,-2,1"], {"aspect_names": "none.txt"}, 1, "aspect 'film_plot': '\\u200b' has no tokens to read"),
        (["good.,1,-2"], {"label_column": "film_music,,film_plot"}, 2, "--label_column=film_music,,film_plot: expected"),
        (["good.,1,-2"], {"text_columns": "text,film_music"}, 2, "with two --text_columns the one column of labels"),
        (["good.,1,-2"], {"text_columns": "text,film_music,film_plot"}, 2, "expected one, the text"),
        (["good.,1,-2"], {"max_length": 12}, 2, "--max_length=12: an aspect and the text"),
        (["good.,film,1", "a,b,-2"], {"text_columns": "text,film_music", "label_column": "film_plot", "aspect_names": None}, 2,
         "--filter=tfn: the aspects must be known"),
        (["good.,film_music,1", "a,b,-2"], {"text_columns": "text,film_music", "label_column": "film_plot"}, 1,
         "bad.csv:3: aspect 'b' is not among those of --aspect_names: film_music, film_plot"),
        (["good.,1,-2", "bad.,-2,1"], {"strategy": "mirrored"}, 2, "--strategy=mirrored: what this task learns first (filter) takes one device"),
    ],
)  # fmt: skip
def test_mistakes_are_named(checkpoint, wide, tmp_path, capsys, monkeypatch, rows, changed, code, message):
    file = tmp_path / "bad.csv"
    file.write_text("".join(line + "\n" for line in [",".join(("text", *ASPECTS)), *rows]), encoding="utf-8")
    (tmp_path / "same.txt").write_text("film_music\t声\nfilm_plot\t音\n", encoding="utf-8")
    (tmp_path / "none.txt").write_text("film_music\tfilm\nfilm_plot\t\u200b\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    arguments = flags(checkpoint, wide, tmp_path / "m", **{"train_data": file, "dev_data": file, **changed})
    assert finetune.main(arguments) == code
    assert message in capsys.readouterr().err
    assert not list((tmp_path / "m").glob("[!.]*"))  # but for the lock


def test_a_checkpoint_of_one_segment(tmp_path, wide, capsys):
    tensors = tiny.hugging_face_tensors()
    tensors["embeddings.token_type_embeddings.weight"] = tensors["embeddings.token_type_embeddings.weight"][:1]
    one = write_hugging_face(tmp_path / "one", tensors, {"type_vocab_size": 1})
    assert finetune.main(flags(one, wide, tmp_path / "m")) == 2
    assert "--task=aspect: the checkpoint knows 1 segment, the task needs 2" in capsys.readouterr().err
