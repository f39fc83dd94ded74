"""A checkpoint whose embedding table has more rows than its vocabulary has pieces, through every task and what is served of it."""

import json

import numpy as np
import pytest
import tensorflow as tf
from conftest import VOCABULARY, write_hugging_face, write_tsv
from tiny import full_tensors

from kbert import encode, finetune, predict, pretrain, serving
from kbert.model_dir import ModelDir

ROWS = 48  # tables are rounded up to a multiple of 8 and more
TEXTS = ["the film is very good.", "a dull plot, and bad", "fine", "the plot is not good"] * 3


@pytest.fixture(scope="module")
def padded(tmp_path_factory):
    """A checkpoint with heads, whose unused rows the masked LM's head likes best of all."""
    tensors = full_tensors(heads=True)
    unused = ROWS - len(VOCABULARY)
    assert unused > 0
    words = tensors["bert.embeddings.word_embeddings.weight"]
    tensors["bert.embeddings.word_embeddings.weight"] = np.concatenate([words, np.ones_like(words[:unused])])
    bias = tensors["cls.predictions.bias"]
    tensors["cls.predictions.bias"] = np.concatenate([bias, np.full(unused, 50, np.float32)])
    settings = {"vocab_size": ROWS, "num_hidden_layers": 3}
    return write_hugging_face(tmp_path_factory.mktemp("padded") / "checkpoint", tensors, settings)


def test_aspects_filtered_by_their_words(padded, tmp_path):
    """The one task, beside pre-training, that keeps something of its own for each piece."""
    path, flags = tmp_path / "rows.jsonl", ["--label_column=film,plot", "--filter=lexical", "--epochs=0", "--max_length=20"]
    rows = [{"text": text, "film": i % 3 - 1, "plot": -(i % 2)} for i, text in enumerate(TEXTS)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    flags += [f"--init={padded}", f"--train_data={path}", f"--dev_data={path}", f"--model_dir={tmp_path / 'm'}"]
    assert finetune.main(["--task=aspect", *flags]) == 0
    assert predict.main([f"--model_dir={tmp_path / 'm'}", f"--input={path}", f"--output={tmp_path / 'out.jsonl'}"]) == 0
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == len(TEXTS)
    assert ModelDir(tmp_path / "m").read_config()[0].encoder.vocabulary_size == ROWS


def test_masks_are_filled_with_pieces_of_the_vocabulary(padded, tmp_path):
    for name in ("train", "dev"):
        (tmp_path / f"{name}.txt").write_text("\n\n".join(TEXTS[:4] * 10) + "\n", encoding="utf-8")
    flags = [f"--init={padded}", f"--train_data={tmp_path / 'train.txt'}", f"--dev_data={tmp_path / 'dev.txt'}"]
    more = ["--objective=mlm", "--steps=1", "--learning_rate=0", "--batch_size=16", "--max_length=20"]
    assert pretrain.main([*flags, *more, f"--model_dir={tmp_path / 'm'}"]) == 0
    measured = ModelDir(tmp_path / "m").metrics()["dev"]["mlm"]
    assert measured["loss"] < 20 and measured["unigram_loss"] < np.log(len(VOCABULARY)), (
        "no unused row has a share of the figures"
    )

    out = tmp_path / "out.jsonl"
    assert predict.main([f"--model_dir={tmp_path / 'm'}", "--text=the [MASK] is", "--n_best=60", f"--output={out}"]) == 0
    pieces = [p["piece"] for p in json.loads(out.read_text())["masks"][0]]
    assert sorted(pieces) == sorted(VOCABULARY), "the pieces there are, and no more"
    predictor = serving.load(tmp_path / "m")
    predictor.save(str(tmp_path / "served"))
    served = tf.saved_model.load(str(tmp_path / "served")).signatures["serving_default"]
    found = served(text=tf.constant(["the [MASK] is", "no mask", "[MASK] [MASK]"]))
    assert set(found["pieces"].numpy().reshape(-1)) <= {token.encode() for token in [*VOCABULARY, ""]}
    shares = json.loads(out.read_text())["masks"][0]
    assert sum(p["probability"] for p in shares) == pytest.approx(1.0, abs=1e-5)


def test_vectors_of_words(padded, tmp_path):
    write_tsv(tmp_path / "texts.tsv", [(text,) for text in TEXTS[:3]], ("text",))
    flags = [f"--init={padded}", f"--input={tmp_path / 'texts.tsv'}", f"--output={tmp_path / 'v.jsonl'}"]
    assert encode.main(flags) == 0
    assert len((tmp_path / "v.jsonl").read_text().splitlines()) == 3
