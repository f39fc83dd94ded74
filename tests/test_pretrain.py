"""`kbert.pretrain` and what a pre-trained directory is good for: a checkpoint, an exported model, masks that are filled."""

import json
import re
import shutil
import sys
import types

import numpy as np
import pytest
import tensorflow as tf
from conftest import ROOT, VOCABULARY, finetune_flags, write_hugging_face
from safetensors.numpy import load_file
from test_training import curves
from tiny import full_tensors, hugging_face_tensors

from kbert import checkpoints, export, finetune, graphs, predict, pretrain
from kbert.model import fused
from kbert.model_dir import ModelDir
from kbert.pretrain_config import PretrainConfig
from kbert.pretraining.start import StartFlags, shape_of

PHRASE = "the film is very good and the plot is not bad ."  # what can be learnt by heart


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with text.txt, 40 documents of the same sentence, and vocab.txt."""
    path = tmp_path_factory.mktemp("pretrain")
    (path / "text.txt").write_text(((PHRASE + "\n") * 3 + "\n") * 40, encoding="utf-8")
    (path / "other.txt").write_text(((PHRASE + "\n") * 2 + "\n") * 4, encoding="utf-8")
    (path / "vocab.txt").write_text("".join(token + "\n" for token in VOCABULARY), encoding="utf-8")
    return path


def arguments(folder, model_dir, **more):
    flags = {
        "train_data": folder / "text.txt",
        "dev_data": folder / "other.txt",
        "vocab": folder / "vocab.txt",
        "lowercase": True,
        "num_layers": 1,
        "hidden_dim": 16,
        "num_heads": 2,
        "intermediate_dim": 32,
        "max_length": 20,
        "batch_size": 16,
        "steps": 60,
        "learning_rate": 0.02,
        "warmup_ratio": 0.1,
        "model_dir": model_dir,
        **more,
    }
    return [f"--{name}={value}" for name, value in flags.items() if value is not None]


@pytest.fixture(scope="module")
def pretrained(folder):
    """A finished run; tests only read it."""
    assert pretrain.main(arguments(folder, folder / "model", objective="mlm", evaluate_steps=30)) == 0
    return folder / "model"


class TestTheRun:
    def test_it_has_learnt_the_text(self, pretrained):
        dev = ModelDir(pretrained).metrics()["dev"]
        assert dev["mlm"]["loss"] < 0.5 * dev["mlm"]["unigram_loss"] and dev["mlm"]["accuracy"] > 0.7
        assert dev["mlm"]["perplexity"] == pytest.approx(np.exp(dev["mlm"]["loss"])) and dev["loss"] == dev["mlm"]["loss"]

    def test_it_begins_with_the_frequencies_of_pieces(self, folder, tmp_path):
        more = {"objective": "mlm", "steps": 1, "learning_rate": 0}
        assert pretrain.main(arguments(folder, tmp_path / "model", **more)) == 0
        dev = ModelDir(tmp_path / "model").metrics()["dev"]["mlm"]
        assert dev["loss"] == pytest.approx(dev["unigram_loss"], abs=0.05)

    def test_a_table_of_embeddings_may_be_rounded_up(self, folder, tmp_path):
        tensors = {**hugging_face_tensors(), "embeddings.word_embeddings.weight": np.zeros((48, 16), np.float32)}
        init = write_hugging_face(tmp_path / "init", tensors, {"vocab_size": 48})
        scratch = dict.fromkeys(("vocab", "lowercase", "num_layers", "hidden_dim", "num_heads", "intermediate_dim"))
        more = {**scratch, "init": init, "objective": "mlm", "steps": 1, "dropout": 0}
        assert pretrain.main(arguments(folder, tmp_path / "model", **more)) == 0
        model, train = ModelDir(tmp_path / "model").read_config()
        assert (model.encoder.dropout, train.dropout, train.max_predictions) == (0.1, 0, 3)

    def test_compiled_it_learns_the_same(self, folder, tmp_path, monkeypatch):
        """What XLA compiles for large models, in parts of a batch too."""
        called = []

        def compiled(function):
            call = original(function)
            return lambda *arguments: called.append(True) or call(*arguments)

        original = fused.compiled
        monkeypatch.setattr(fused, "compiled", compiled)
        losses = []
        for name, worth in (("plain", 10**9), ("compiled", 1)):
            monkeypatch.setattr(graphs, "WORTH_COMPILING", worth)
            more = {"objective": "mlm", "steps": 8, "accumulation_steps": 2}
            assert pretrain.main(arguments(folder, tmp_path / name, **more)) == 0
            losses.append(ModelDir(tmp_path / name).best().metrics["loss"])
            assert bool(called) == (name == "compiled")
        assert losses[1] == pytest.approx(losses[0], abs=1e-4)

    def test_tensorboard_has_its_figures(self, pretrained):
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        events = EventAccumulator(str(pretrained / "tb"), size_guidance={"tensors": 0}).Reload()
        tags = set(events.Tags()["tensors"])
        assert {
            "dev/loss",
            "dev/mlm_loss",
            "dev/mlm_perplexity",
            "dev/mlm_accuracy",
            "train/loss",
            "train/mlm_accuracy",
        } <= tags

    def test_the_same_command_says_it_is_finished_and_others_name_what_differs(self, folder, pretrained, capsys):
        same = arguments(folder, pretrained, objective="mlm", evaluate_steps=30)
        metrics = ModelDir(pretrained).metrics()
        (pretrained / "metrics.json").unlink()  # as after a kill behind the last checkpoint
        assert pretrain.main(same) == 0
        assert "is finished: 60 steps, 7 epochs" in capsys.readouterr().out
        assert ModelDir(pretrained).metrics() == metrics
        shutil.copy(folder / "text.txt", folder / "third.txt")
        swapped = folder / "swapped.txt"
        swapped.write_text(
            "".join(token + "\n" for token in [*VOCABULARY[:-2], VOCABULARY[-1], VOCABULARY[-2]]), encoding="utf-8"
        )
        for more, message in [
            ({"mask_unit": "word"}, "has a run with mask_unit piece, not word"),
            ({"objective": "mlm+sop"}, "has a run with objective mlm, not mlm+sop"),
            ({"train_data": folder / "third.txt"}, "has a run with train_data"),
            ({"vocab": swapped}, f"another vocabulary: line {len(VOCABULARY) - 1} was"),
        ]:
            assert pretrain.main([*same, *(f"--{k}={v}" for k, v in more.items())]) == 2
            assert message in capsys.readouterr().err

    def test_a_lost_run_names_a_checkpoint_that_another_begins_from(self, folder, tmp_path, capsys):
        """Its weights were numbers when the first checkpoint was written, and too large for anything."""
        lost = {"objective": "mlm", "learning_rate": 1e30, "checkpoint_steps": 1, "warmup_ratio": 0, "steps": 30}
        assert pretrain.main(arguments(folder, tmp_path / "lost", **lost)) == 1
        said = capsys.readouterr().err
        assert "the only checkpoint, which may be lost too, is" in said and ModelDir(tmp_path / "lost").last().step == 1
        assert pretrain.main(arguments(folder, tmp_path / "m", objective="mlm", steps=3, checkpoint_steps=1)) == 0
        saved = ModelDir(tmp_path / "m").last()
        scratch = dict.fromkeys(("vocab", "lowercase", "num_layers", "hidden_dim", "num_heads", "intermediate_dim"))
        more = {**scratch, "init": saved.path, "objective": "mlm", "steps": 1, "learning_rate": 0}
        assert pretrain.main(arguments(folder, tmp_path / "next", **more)) == 0
        after = ModelDir(tmp_path / "next").last().weights()
        assert all(np.array_equal(array, after[name]) for name, array in saved.weights().items())
        assert pretrain.main(arguments(folder, tmp_path / "m", **more)) == 2
        assert f"--init={saved.path} is in --model_dir={tmp_path / 'm'}; give another" in capsys.readouterr().err

    def test_other_held_out_text_is_another_run(self, folder, pretrained, tmp_path, capsys):
        shutil.copy(folder / "other.txt", tmp_path)
        flags = [*arguments(folder, pretrained, objective="mlm", evaluate_steps=30), f"--dev_data={tmp_path / 'other.txt'}"]
        assert pretrain.main(flags) == 2 and "has a run with dev_data " in capsys.readouterr().err
        text = (folder / "other.txt").read_bytes()
        try:
            (folder / "other.txt").write_bytes(text * 2)
            assert pretrain.main(arguments(folder, pretrained, objective="mlm", evaluate_steps=30)) == 2
        finally:
            (folder / "other.txt").write_bytes(text)
        assert "has a run with dev_data_crc32 " in capsys.readouterr().err

    def test_a_damaged_checkpoint_without_another_is_named(self, folder, pretrained, tmp_path, capsys):
        shutil.copytree(pretrained, tmp_path / "model")
        weights = ModelDir(tmp_path / "model").last().path / "weights.safetensors"
        weights.write_bytes(weights.read_bytes()[:-4])
        assert pretrain.main(arguments(folder, tmp_path / "model", objective="mlm", evaluate_steps=30)) == 1
        error = capsys.readouterr().err
        assert str(weights) in error and "no other is complete: use --overwrite to start over" in error


class TestFilling:
    def test_predict_gives_the_best_pieces_of_each_mask(self, pretrained, tmp_path):
        (tmp_path / "in.txt").write_text(
            "the film is very [MASK] and the [MASK] is not bad .\nno mask\n\n[MASK][MASK]\n", encoding="utf-8"
        )
        assert (
            predict.main([f"--model_dir={pretrained}", f"--input={tmp_path / 'in.txt'}", f"--output={tmp_path / 'out.jsonl'}"])
            == 0
        )
        rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
        assert [len(row["masks"]) for row in rows] == [2, 0, 0, 2]
        assert not any("cut" in row for row in rows)
        first, second = rows[0]["masks"]
        assert first[0]["piece"] == "good" and second[0]["piece"] == "plot"
        for best in rows[0]["masks"]:
            probabilities = [each["probability"] for each in best]
            assert len(best) == 5 and probabilities == sorted(probabilities, reverse=True) and 0 < sum(probabilities) <= 1.0001

    def test_masks_behind_the_longest_input_are_counted(self, pretrained, capsys):
        text = "the [MASK] is good and " * 5
        assert predict.main([f"--model_dir={pretrained}", f"--text={text}"]) == 0
        row = json.loads(capsys.readouterr().out)
        assert len(row["masks"]) == 4 and row["masks_cut"] == 1 and row["cut"]  # 18 tokens are read

    def test_the_exported_model_answers_the_same(self, pretrained, tmp_path):
        assert export.main([f"--model_dir={pretrained}", f"--export_dir={tmp_path / 'served'}"]) == 0
        serve = tf.saved_model.load(str(tmp_path / "served" / "1")).signatures["serving_default"]
        texts = ["the film is very [MASK] and the plot is not bad .", "nothing", "[MASK] [MASK]"]
        found = {name: value.numpy() for name, value in serve(text=tf.constant(texts)).items()}
        assert found["count"].tolist() == [1, 0, 2] and found["pieces"][0][0][0] == b"good"
        assert found["pieces"].shape == (3, 2, 5) and found["pieces"][1][0].tolist() == [b""] * 5
        from kbert import serving

        decoded = serving.load(pretrained)({"text": tf.constant(["the film is very [MASK] and the plot is not bad ."])})
        np.testing.assert_allclose(decoded["probabilities"][0, 0], found["probabilities"][0][0], atol=1e-6)

    def test_masks_in_the_tokenizer(self, vocabulary):
        from kbert.data.tokenizer import Tokenizer

        tokenizer = Tokenizer(vocabulary, lowercase=True, strip_accents=True)
        texts = ["a [MASK]", "", "[MASK]", "good[MASK]bad[MASK][MASK]", "[mask]"]
        found = [[vocabulary[i] for i in row] for row in tokenizer.tokenize_with_masks(tf.constant(texts)).to_list()]
        assert found[:4] == [["a", "[MASK]"], [], ["[MASK]"], ["good", "[MASK]", "bad", "[MASK]", "[MASK]"]]
        assert found[4] == ["[", "[UNK]", "]"]
        plain = tokenizer.tokenize(tf.constant(texts)).to_list()
        assert tokenizer.mask_id not in [i for row in plain for i in row]


class TestAsACheckpoint:
    def test_heads_go_to_hugging_face_and_back(self, checkpoint, folder, tmp_path):
        """From a checkpoint with both heads, one step, all frozen but the top: every tensor of BertForPreTraining is written."""
        source = write_hugging_face(tmp_path / "source", full_tensors(heads=True), {"num_hidden_layers": 3})
        more = {
            "vocab": None, "lowercase": None, "num_layers": None, "hidden_dim": None, "num_heads": None, "intermediate_dim": None,
            "init": source, "freeze_layers": 2, "steps": 2, "learning_rate": 1e-3, "precision": "bfloat16",
        }  # fmt: skip
        assert pretrain.main(arguments(folder, tmp_path / "model", **more)) == 0
        dev = ModelDir(tmp_path / "model").metrics()["dev"]
        assert set(dev) == {"loss", "mlm", "nsp"} and dev["nsp"]["pairs"] > 0
        assert dev["loss"] == pytest.approx(dev["mlm"]["loss"] + dev["nsp"]["loss"])

        found = checkpoints.open_checkpoint(str(tmp_path / "model"))
        assert "masked LM, next sentence" in checkpoints.summary(found)
        assert checkpoints.write_checkpoint(found, str(tmp_path / "hf"), "hugging_face") == []
        assert json.loads((tmp_path / "hf" / "config.json").read_text())["architectures"] == ["BertForPreTraining"]
        tensors, before = load_file(tmp_path / "hf" / "model.safetensors"), full_tensors(heads=True)
        assert set(tensors) == set(before)
        for name, tensor in tensors.items():
            frozen = name.startswith(("bert.embeddings.", "bert.encoder.layer.0.", "bert.encoder.layer.1."))
            assert tensor.shape == before[name].shape and np.array_equal(tensor, before[name]) == frozen, name
            assert np.abs(tensor - before[name]).max() < 0.01  # two small steps from where it began

    def test_a_model_without_pairs_has_no_pooler_and_finetunes(self, pretrained, data, tmp_path, capsys):
        found = checkpoints.open_checkpoint(str(pretrained))
        assert not found.has_pooler and "masked LM" in checkpoints.summary(found) and "next" not in checkpoints.summary(found)
        flags = finetune_flags(pretrained, data, tmp_path / "fine", epochs=1, pooling="mean")
        assert finetune.main(flags) == 0


class TestPhases:
    """Sentence order, whole words by a segmenter of one's own, and a second phase on longer examples."""

    @pytest.fixture(scope="class")
    def first(self, folder, tmp_path_factory):
        sys.modules["kbert_test_words"] = types.ModuleType("kbert_test_words")
        sys.modules["kbert_test_words"].pairs = lambda text: re.findall("..?", text)
        more = {"objective": "mlm+sop", "mask_unit": "word", "segmenter": "kbert_test_words:pairs", "steps": 4}
        path = tmp_path_factory.mktemp("phases") / "first"
        assert pretrain.main(arguments(folder, path, **more)) == 0
        return path

    def test_figures_of_both_heads(self, first):
        directory = ModelDir(first)
        dev = directory.metrics()["dev"]
        assert (
            dev["sop"]["pairs"] > 0
            and 0.5 <= dev["sop"]["larger_class"] <= 1
            and dev["loss"] == pytest.approx(dev["mlm"]["loss"] + dev["sop"]["loss"])
        )
        assert {"dev/sop_loss", "dev/sop_accuracy", "train/sop_accuracy"} <= set(curves(first))
        assert directory.read_config()[1].segmenter == "kbert_test_words:pairs"

    def test_a_second_phase_begins_where_the_first_ended(self, folder, first, tmp_path, capsys):
        scratch = dict.fromkeys(("vocab", "lowercase", "num_layers", "hidden_dim", "num_heads", "intermediate_dim"))
        still = {**scratch, "init": first, "max_length": 60, "steps": 1, "learning_rate": 0}
        assert pretrain.main(arguments(folder, tmp_path / "second", **still, objective="mlm+sop")) == 0
        before, after = (load_file(ModelDir(path).best().path / "weights.safetensors") for path in (first, tmp_path / "second"))
        assert set(before) == set(after) and all(np.array_equal(before[name], after[name]) for name in before)
        assert "no head for" not in capsys.readouterr().err
        assert ModelDir(tmp_path / "second").read_config()[1].max_predictions == 9  # of 60 tokens
        assert pretrain.main(arguments(folder, tmp_path / "third", **still, objective="mlm+nsp")) == 0
        assert "the checkpoint has no head for next sentence: its weights start at random values" in capsys.readouterr().err

    def test_the_order_head_is_nobodys_next_sentence_head(self, first, tmp_path):
        found = checkpoints.open_checkpoint(str(first))
        assert "masked LM, sentence order" in checkpoints.summary(found)
        for form in ("hugging_face", "google"):
            notices = checkpoints.write_checkpoint(found, str(tmp_path / form), form, approximate_gelu=True)
            assert "omitted: sentence order; BERT has no such head" in notices
        assert json.loads((tmp_path / "hugging_face" / "config.json").read_text())["architectures"] == ["BertForMaskedLM"]
        assert not any("sop" in name for name, _ in tf.train.list_variables(str(tmp_path / "google" / "bert_model.ckpt")))


class TestMistakes:
    @pytest.mark.parametrize(
        ("more", "code", "message"),
        [
            ({"vocab": None}, 2, "give one of --init, to continue from a checkpoint, and --vocab, to begin from scratch"),
            ({"init": "x"}, 2, "give one of --init"),
            ({"vocab": None, "init": "x"}, 2, "--lowercase: --init=x says what the model is"),
            ({"num_layers": None}, 2, "give --size, or --num_layers and --hidden_dim"),
            ({"num_heads": 3}, 2, "--num_heads=3 does not divide the width, 16"),
            ({"dev_fraction": 0.1}, 2, "--dev_data and --dev_fraction exclude each other"),
            ({"segmenter": "jieba"}, 2, "--segmenter=jieba says what words are; it needs --mask_unit=word or span"),
            ({"segmenter": "none", "mask_unit": "word"}, 2, "--segmenter=none: expected jieba, or module:function"),
            ({"max_length": 4}, 2, "a pair needs 5 tokens or more"),
            (
                {"objective": "mlm", "short_seq_prob": 0.2},
                2,
                "--short_seq_prob=0.2 is for pairs, which --objective=mlm has none",
            ),
            ({"freeze_layers": 2}, 2, "--freeze_layers=2: the model has 1 layers"),
            ({"train_data": "no.tfrecord", "dev_data": None}, 2, "which cannot be split"),
            ({"train_data": "none.txt"}, 1, "none.txt: no such file"),
            ({"dev_data": None, "dev_fraction": 0.0001}, 1, "too few documents to hold any out"),
        ],
    )
    def test_each_is_said(self, folder, tmp_path, capsys, more, code, message):
        assert pretrain.main(arguments(folder, tmp_path / "model", **more)) == code
        assert message in capsys.readouterr().err and not (tmp_path / "model" / "config.json").exists()

    def test_text_that_is_learnt_from_is_not_held_out(self, folder, tmp_path, capsys):
        more = {"train_data": folder / "*.txt", "dev_data": folder / "other.txt"}
        assert pretrain.main(arguments(folder, tmp_path / "m", **more)) == 2
        assert "other.txt is among the files of --train_data; held-out data must not be trained on" in capsys.readouterr().err

    def test_no_blank_lines(self, folder, tmp_path, capsys):
        (tmp_path / "one.txt").write_text((PHRASE + "\n") * 9, encoding="utf-8")
        assert pretrain.main(arguments(folder, tmp_path / "m", train_data=tmp_path / "one.txt", dev_data=None)) == 1
        assert "one.txt: there is only one document, and none to hold out; are blank lines missing" in capsys.readouterr().err

    def test_one_document_held_out(self, folder, tmp_path, capsys):
        words = [token for token in VOCABULARY if token.isascii() and token.isalpha()]
        pairs = zip(words, [*words[1:], words[0]], strict=True)
        (tmp_path / "few.txt").write_text("".join(f"the film is {a} .\nit is {b} .\n\n" for a, b in pairs), encoding="utf-8")
        more = {"train_data": tmp_path / "few.txt", "dev_data": None}
        held = []
        for fraction in (0.05, 0.08, 0.12, 0.2):
            assert pretrain.main(
                arguments(folder, tmp_path / "m", **more, dev_fraction=fraction, objective="mlm+nsp", steps=1)
            ) in (0, 1)
            held.append(capsys.readouterr().err)
            if "held out: --objective=mlm+nsp takes half" in held[-1]:
                assert "Hold more out with --dev_fraction or --dev_data" in held[-1]
                return
        raise AssertionError(held)

    def test_a_checkpoint_that_cannot(self, checkpoint, folder, tmp_path, monkeypatch, capsys):
        scratch = dict.fromkeys(("vocab", "lowercase", "num_layers", "hidden_dim", "num_heads", "intermediate_dim"))
        assert pretrain.main(arguments(folder, tmp_path / "model", **scratch, init=checkpoint, max_length=41)) == 2
        assert "the checkpoint has positions for 40 tokens" in capsys.readouterr().err
        monkeypatch.chdir(tmp_path)
        ModelDir(".").check_not_in("bert_base_zh")  # a preset's name is no folder here
        (tmp_path / "vocab.txt").write_text("".join(t + "\n" for t in VOCABULARY if t != "[MASK]"), encoding="utf-8")
        assert pretrain.main(arguments(folder, tmp_path / "model", vocab=tmp_path / "vocab.txt")) == 1
        assert "the vocabulary has no [MASK] among its 40 tokens" in capsys.readouterr().err

    def test_what_pre_training_is_not_for(self, pretrained, data, capsys):
        from kbert import evaluate

        assert evaluate.main([f"--model_dir={pretrained}", f"--data={data / 'dev.tsv'}"]) == 2
        assert "a pre-trained model is measured on text that was held out" in capsys.readouterr().err
        assert finetune.main(["--task=pretrain"]) == 2


def test_help_names_each_flag_with_its_own_default(capsys):
    assert pretrain.main(["--help"]) == 0
    shown = capsys.readouterr().out
    for line in (
        "--learning_rate=X",
        "--mask_unit=piece|word|span",
        "--objective=mlm+nsp|mlm|mlm+sop",
        "--size=tiny|mini|small",
    ):
        assert line in shown
    assert shown.index("--train_data") < shown.index("--batch_size")
    assert f"Default: {PretrainConfig.DEFAULTS['epochs']}." in " ".join(shown.split()) and "--text_columns" not in shown
    assert re.search(r"--loss_limit=X.*?Default: 3.0\.", shown, flags=re.S)


@pytest.mark.parametrize(
    ("size", "layers", "width"), [("tiny", 2, 128), ("mini", 4, 256), ("base", 12, 768), ("large", 24, 1024)]
)
def test_sizes_are_those_that_google_published(size, layers, width):
    shape = shape_of(StartFlags(size=size), 100, 128)
    assert (shape.num_layers, shape.hidden_dim, shape.num_heads, shape.intermediate_dim) == (
        layers,
        width,
        width // 64,
        4 * width,
    )


@pytest.mark.parametrize(("command", "kills"), [("pretrain", 2), ("finetune", 2)])
def test_a_run_killed_at_random_is_the_run_that_was_not(command, kills, folder, checkpoint, data, tmp_path, forks, environment):
    if command == "pretrain":
        (tmp_path / "text.txt").write_text((folder / "text.txt").read_text() * 8)
        for name in ("other.txt", "vocab.txt"):
            shutil.copyfile(folder / name, tmp_path / name)
    else:
        shutil.copytree(data, tmp_path, dirs_exist_ok=True)
        shutil.copytree(checkpoint, tmp_path / "checkpoint")

    arguments = [command, *map(str, (tmp_path, tmp_path / "whole", tmp_path / "killed", kills, 5))]
    program = f"import sys; sys.path.insert(0, {str(ROOT / 'tests')!r}); import killed_run; killed_run.main(*sys.argv[1:])"
    child = forks.start(program, arguments, environment)
    output = child.communicate()[0]
    assert child.returncode == 0, output
    reached = json.loads(output.splitlines()[-1])
    assert len(reached) == kills and len(set(reached)) > kills / 2
    whole, killed = ModelDir(tmp_path / "whole"), ModelDir(tmp_path / "killed")
    for file in ("weights.safetensors", "state.safetensors"):
        a, b = (load_file(directory.last().path / file) for directory in (whole, killed))
        assert list(a) == list(b) and all(np.array_equal(a[name], b[name]) for name in a)
    assert [(s.step, s.metrics) for s in whole.checkpoints()] == [(s.step, s.metrics) for s in killed.checkpoints()]
    assert curves(whole.path) == curves(killed.path) and len(curves(whole.path)["train/loss"]) >= 20
