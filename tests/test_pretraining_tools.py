"""The tools of pre-training: a vocabulary of one's own, examples in shards, a pipeline for clusters."""

import json
import os
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
import tensorflow as tf
from conftest import ROOT, VOCABULARY, wait_for
from test_pretrain import arguments
from test_pretraining_data import text

from kbert import flags, make_pretraining_data, make_vocab, pretrain
from kbert.errors import DataError, UsageError
from kbert.model_dir import ModelDir
from kbert.pretraining import records, sharding
from kbert.pretraining.flags import DataFlags
from kbert.pretraining.records import RecordExamples
from kbert.pretraining.vocabulary import count_words, vocabulary


class TestVocabulary:
    def test_it_fits_the_tokenizer(self, tmp_path, capsys):
        """Every word is read without [UNK]; characters that BERT splits off stand alone, special tokens come first."""
        from kbert.data.tokenizer import Tokenizer
        from kbert.data.vocabulary import read_vocabulary

        words = [
            "Überraschung",
            "überrascht",
            "rasch",
            "walking",
            "walked",
            "talking",
            "talked",
            "电影",
            "很好",
            "C++",
            "don't",
        ]
        lines = [" ".join(np.random.default_rng(i).choice(words, 12)) for i in range(120)]
        (tmp_path / "a.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        (tmp_path / "b.txt").write_text("x" * 300 + "\n", encoding="utf-8")
        flags = [
            f"--input={tmp_path}/*.txt",
            f"--output={tmp_path / 'vocab.txt'}",
            "--vocab_size=120",
            "--lowercase",
            "--unused=3",
        ]
        assert make_vocab.main(flags) == 0
        tokens = read_vocabulary(tmp_path / "vocab.txt")
        assert tokens[:8] == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[unused0]", "[unused1]", "[unused2]"]
        assert (
            len(tokens) <= 120
            and {"电", "影", "很", "好", "+", "'"} <= set(tokens)
            and "##影" not in tokens
            and "电影" not in tokens
        )
        assert any(token.startswith("##") and len(token) > 3 for token in tokens) and "walking" in tokens
        assert all(token == token.lower() or token.startswith("[") for token in tokens) and "ü" not in "".join(tokens)
        ids = Tokenizer(tokens, lowercase=True, strip_accents=True).tokenize(tf.constant(lines))
        assert 1 not in ids.values.numpy()
        assert "different" in capsys.readouterr().out

    def test_counts_are_those_of_normalised_words(self):
        from kbert.pretraining.corpus import Block

        block = Block(["Café café, 电影".encode(), b"CAFE"], np.array([True, True]), np.zeros(2, int), np.zeros(2, int))
        assert count_words([block], lowercase=True) == {"cafe": 3, ",": 1, "电": 1, "影": 1}
        assert count_words([block], lowercase=False)["Café"] == 1

    def test_the_rarest_words_make_room(self, monkeypatch, caplog):
        from kbert.pretraining import vocabulary as module
        from kbert.pretraining.corpus import Block

        monkeypatch.setattr(module, "MOST_WORDS", 3)
        block = Block([b"a b c d a b"], np.array([True]), np.zeros(1, int), np.zeros(1, int))
        assert count_words([block], lowercase=True) == {"a": 2, "b": 2}

    def test_sizes(self):
        counts = Counter({"电": 9, "影": 5, "罕": 1, "word": 4})
        with pytest.raises(DataError, match="--vocab_size=50: too small"):
            vocabulary(counts, 50)
        del counts["word"]
        assert vocabulary(counts, 7) == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "电", "影"]
        assert vocabulary(counts, 6)[5:] == ["电"] and "罕" in vocabulary(counts, 8, least=1)

    def test_tokenizers_not_installed(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "tokenizers", None)
        with pytest.raises(UsageError, match=r"pip install 'kbert-keras\[vocab\]'"):
            vocabulary(Counter({"word": 3}), 200)


class TestShards:
    @pytest.fixture(scope="class")
    def folder(self, tmp_path_factory):
        path = tmp_path_factory.mktemp("shards")
        (path / "text.txt").write_text(text(80), encoding="utf-8")
        (path / "vocab.txt").write_text("".join(t + "\n" for t in VOCABULARY), encoding="utf-8")
        return path

    @staticmethod
    def arguments(folder, **more):
        flags = {
            "input": folder / "text.txt",
            "vocab": folder / "vocab.txt",
            "output": folder / "out",
            "lowercase": True,
            "max_length": 32,
            "passes": 2,
            "shards": 3,
            "dev_fraction": 0.2,
            "processes": 1,
            **more,
        }
        return [f"--{name}={value}" for name, value in flags.items()]

    def run(self, folder, **more):
        return make_pretraining_data.main(self.arguments(folder, **more))

    def test_written_resumed_and_read(self, folder, capsys):
        assert self.run(folder) == 0
        out = folder / "out"
        manifest = json.loads((out / "manifest.json").read_text())
        assert sorted(p.name for p in out.glob("*.tfrecord")) == sorted(manifest["examples"])
        assert [name.split("-")[0] for name in manifest["examples"]] == ["train"] * 3 + ["dev"] and not (out / ".work").exists()
        train, dev = (
            RecordExamples(str(out / f"{split}-*.tfrecord"), vocabulary_size=41, max_length=32, pairs=True)
            for split in ("train", "dev")
        )
        assert train.most == manifest["options"]["max_predictions"] == 5  # of 32 tokens, as shards are padded
        assert len(train) + len(dev) == sum(manifest["examples"].values()) and len(train) > 3 * len(dev)
        assert make_pretraining_data.main(self.arguments(folder)) == 0
        assert "is finished" in capsys.readouterr().out

        # As a run leaves it that was killed: no manifest, a shard short of three, half of another.
        before = {path.name: path.read_bytes() for path in out.glob("*.tfrecord")}
        (out / "manifest.json").unlink()
        (out / "train-00001-of-00003.tfrecord").unlink()
        (out / ".train-00002-of-00003.tfrecord.12").write_bytes(b"half")
        kept = os.stat(out / "train-00000-of-00003.tfrecord").st_mtime_ns
        assert self.run(folder, processes=2) == 0
        assert {path.name: path.read_bytes() for path in out.glob("*.tfrecord")} == before
        assert os.stat(out / "train-00000-of-00003.tfrecord").st_mtime_ns == kept and not list(out.glob(".train*"))

    def test_a_run_on_shards(self, folder, tmp_path, capsys):
        """Whole ones, a damaged one, and with flags that are for making them."""
        shards = tmp_path / "shards"
        assert self.run(folder, output=shards, objective="mlm+sop") == 0
        more = {"train_data": shards / "train-*.tfrecord", "dev_data": shards / "dev-*.tfrecord", "max_length": 32, "steps": 3}

        def trained(name: str, **others: object) -> int:
            return pretrain.main(arguments(folder, tmp_path / name, **{"objective": "mlm+sop", **more, **others}))

        assert trained("whole") == 0
        assert ModelDir(tmp_path / "whole").metrics()["dev"]["sop"]["pairs"] > 0
        assert records.is_records(str(shards / "train-*")) and not records.is_records(str(folder / "*"))
        shard = shards / "train-00001-of-00003.tfrecord"
        content = shard.read_bytes()
        shard.unlink()
        assert trained("missing") == 1
        assert f"{shard}: no such file, though manifest.json lists it" in capsys.readouterr().err
        (folder / "text.txt").write_text(text(80, 1), encoding="utf-8")
        assert self.run(folder, output=shards, objective="mlm+sop") == 2
        assert "was begun with input_bytes " in capsys.readouterr().err
        (folder / "text.txt").write_text(text(80), encoding="utf-8")
        assert self.run(folder, output=shards, objective="mlm+sop") == 0 and shard.read_bytes() == content
        shard.write_bytes(shard.read_bytes()[:-9])
        assert trained("damaged") == 1 and not (tmp_path / "damaged" / "config.json").exists()
        said = capsys.readouterr().err
        assert f"{shard}: damaged or cut short after record " in said and "continue without it by --skip_damaged_shards" in said
        assert trained("damaged", skip_damaged_shards=True) == 0
        assert f"left out: {shard}: damaged or cut short" in capsys.readouterr().err
        assert trained("whole", skip_damaged_shards=True) == 2
        assert "has a run with train_data_crc32 " in capsys.readouterr().err
        for flag, value, message in (
            (
                "mask_rate",
                0.3,
                "--mask_rate=0.3: --train_data and --dev_data are shards, whose examples are already made; it is for kbert make_pretraining_data",
            ),
            ("mask_unit", "word", "--mask_unit=word: --train_data and --dev_data are shards"),
            ("objective", "mlm+nsp", "were made for mlm+sop"),
        ):
            assert trained("flags", skip_damaged_shards=True, **{flag: value}) == 2
            assert message in capsys.readouterr().err

    def test_workers_end_with_a_killed_tool(self, folder, tmp_path, environment):
        flags = self.arguments(folder, input="-", output=tmp_path, processes=2)
        command = [sys.executable, ROOT / "tools" / "make_pretraining_data.py", *flags]
        with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as tool:
            tool.stdin.write(b"the film is good .\n" * 9 * 2048)  # more blocks than it lets wait, and no end
            tool.stdin.flush()
            written = tmp_path / ".work" / "ids"
            wait_for(lambda: written.exists() and written.stat().st_size, tool)  # a worker has given an answer
            tool.kill()
            # A worker has the same output, which ends when the last that has it does.
            assert tool.stdout.read() == b""

    def test_other_options_are_refused(self, folder, tmp_path, capsys):
        (tmp_path / "options.json").write_text(json.dumps({"layout": "documents"}))
        assert make_pretraining_data.main(self.arguments(folder, output=tmp_path)) == 2
        assert "was begun with layout documents, not sentences; name another directory" in capsys.readouterr().err
        vocab = tmp_path / "vocab.txt"
        vocab.write_text((folder / "vocab.txt").read_text(encoding="utf-8") + "more\n", encoding="utf-8")
        (tmp_path / "options.json").unlink()
        begun = self.arguments(folder, output=tmp_path / "out", vocab=vocab, shards=10_000)
        assert make_pretraining_data.main(begun) == 2  # more shards than examples: it is begun, and ends
        assert "--shards=10000: there are " in capsys.readouterr().err
        vocab.write_text(vocab.read_text(encoding="utf-8").replace("more", "less"), encoding="utf-8")
        assert make_pretraining_data.main(begun) == 2
        assert "was begun with vocab_crc32 " in capsys.readouterr().err

        read = flags.parse("x", "", self.arguments(folder), lambda _: (DataFlags,))
        assert read[0].passes == 2 and make_pretraining_data.main(["--help"]) == 0

    def test_a_killed_worker_is_said(self, folder, tmp_path, monkeypatch, capsys):
        monkeypatch.setattr(sharding, "_tokenize", lambda options, work, pool, workers: pool.submit(os._exit, 9).result())
        assert make_pretraining_data.main(self.arguments(folder, output=tmp_path, processes=2)) == 1
        assert (
            "a worker process was killed, perhaps because memory ran out; the same command continues" in capsys.readouterr().err
        )


class TestBeam:
    def test_a_pipeline_writes_what_is_read(self, tmp_path, environment):
        pytest.importorskip("apache_beam")
        from kbert.pretraining import beam

        (tmp_path / "a.txt").write_text(text(60), encoding="utf-8")
        (tmp_path / "b.txt").write_text(text(60, 1), encoding="utf-8")
        (tmp_path / "vocab.txt").write_text("".join(t + "\n" for t in VOCABULARY), encoding="utf-8")
        flags = [
            f"--input={tmp_path}/?.txt",
            f"--vocab={tmp_path / 'vocab.txt'}",
            "--lowercase",
            "--max_length=32",
            "--passes=2",
        ]
        assert beam.main([*flags, f"--output={tmp_path / 'train'}", "--shards=2"]) == 0
        found = RecordExamples(str(tmp_path / "train-*.tfrecord"), vocabulary_size=41, max_length=32, pairs=True)
        arrays = found.read(np.arange(len(found)), 0)
        assert len(found.names) == 2 and len(found) > 300 and 0.4 < (arrays.pair == 1).mean() < 0.8

        # One group of all documents, in their order, gives the examples of the tool that needs no cluster.
        documents = {d for name in "ab" for d in (tmp_path / f"{name}.txt").read_text(encoding="utf-8").split("\n\n")}
        ordered = sorted([line.strip() for line in d.strip().split("\n")] for d in documents if d.strip())
        (tmp_path / "all.txt").write_text("\n\n".join("\n".join(d) for d in ordered) + "\n", encoding="utf-8")
        flags[0] = f"--input={tmp_path / 'all.txt'}"
        assert beam.main([*flags, f"--output={tmp_path / 'one'}", "--shards=1"]) == 0
        command = [sys.executable, ROOT / "tools" / "make_pretraining_data.py", *flags, "--shards=1", "--processes=1"]
        subprocess.run([*command, f"--output={tmp_path / 'ours'}"], env=environment, check=True)
        shards = [*tmp_path.glob("one-*.tfrecord"), *tmp_path.glob("ours/*.tfrecord")]
        theirs, ours = (sorted(tf.data.TFRecordDataset(str(shard)).as_numpy_iterator()) for shard in shards)
        assert theirs == ours

    def test_mistakes_are_said(self, tmp_path, capsys):
        pytest.importorskip("apache_beam")
        from kbert.pretraining import beam

        (tmp_path / "a.txt").write_bytes(text(3).encode() + b"\xff\xfe\n")
        (tmp_path / "vocab.txt").write_text("".join(t + "\n" for t in VOCABULARY), encoding="utf-8")
        flags = [f"--input={tmp_path}/a.txt", f"--vocab={tmp_path}/vocab.txt", f"--output={tmp_path}/out", "--shards=1"]
        assert beam.main([*flags, "--lowercse"]) == 2
        assert "unknown flag --lowercse: neither kbert's nor Beam's; --help lists kbert's" in capsys.readouterr().err
        assert beam.main([*flags, "--direct_num_workers=1"]) == 1
        assert "a.txt:" in (said := capsys.readouterr().err) and "bytes ff fe 0a are not utf-8; name the file's" in said
        (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\na\n", encoding="utf-8")
        assert beam.main(flags) == 1
        assert "the vocabulary has no [MASK]" in capsys.readouterr().err
