"""Checkpoints in each of their forms, and what is said of broken ones."""

import json
import shlex
import shutil
import sys

import keras_nlp
import numpy as np
import pytest
import tensorflow as tf
from conftest import VOCABULARY, finetune_flags, hugging_face_tensors, write_hugging_face
from safetensors.tensorflow import save_file as save_tensorflow
from tiny import head_tensors

import kbert
from kbert import checkpoints, finetune
from kbert.checkpoints import open_checkpoint
from kbert.config import AddedToken, TextConfig
from kbert.errors import DataError, UsageError
from kbert.model_dir import ModelDir

HEADS = [
    *(f"mlm_head/{name}" for name in ("intermediate_dense/kernel", "intermediate_dense/bias", "output_bias")),
    *("mlm_head/intermediate_layer_norm/gamma", "mlm_head/intermediate_layer_norm/beta", "nsp_head/kernel", "nsp_head/bias"),
]


def same_arrays(a, b) -> bool:
    return set(a) == set(b) and all(np.array_equal(a[name], b[name]) for name in a)


def test_hugging_face(checkpoint):
    found = open_checkpoint(str(checkpoint))
    assert found.format == "Hugging Face" and found.vocabulary == VOCABULARY
    assert (found.encoder.num_layers, found.encoder.hidden_dim, found.encoder.activation) == (2, 16, "gelu")
    assert found.text.lowercase and found.text.strip_accents
    assert "2 layers, 16 wide" in checkpoints.describe(found)
    query = found.arrays()["transformer_layer_0/self_attention_layer/query/kernel"]
    assert np.array_equal(query.reshape(16, 16), hugging_face_tensors()["encoder.layer.0.attention.self.query.weight"].T)


@pytest.mark.parametrize(
    ("settings", "lowercase", "strip"),
    [
        ({"do_lower_case": False}, False, False),
        ({"do_lower_case": True, "strip_accents": False}, True, False),
        ({"do_lower_case": False, "strip_accents": True}, False, True),
    ],
)
def test_casing_follows_the_tokenizer_config(tmp_path, settings, lowercase, strip):
    found = open_checkpoint(str(write_hugging_face(tmp_path, tokenizer=settings))).text
    assert (found.lowercase, found.strip_accents) == (lowercase, strip)


def test_prefixes_heads_old_names_and_no_pooler(tmp_path, checkpoint):
    plain = open_checkpoint(str(checkpoint)).arrays()
    renamed = {}
    for name, value in hugging_face_tensors().items():
        if not name.startswith("pooler."):
            name = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
            renamed["bert." + name] = value
    renamed |= head_tensors() | {"qa_outputs.weight": np.zeros((2, 16), np.float32)}
    renamed["bert.embeddings.position_ids"] = np.zeros((1, 40), np.int64)
    found = open_checkpoint(str(write_hugging_face(tmp_path, renamed)))
    assert same_arrays(found.arrays(), {name: value for name, value in plain.items() if not name.startswith("pooled_dense/")})
    assert set(found.heads()) == set(HEADS) and found.ignored == ("qa_outputs.weight",) and not found.has_pooler


def test_google(tmp_path, checkpoint):
    config = {k: v for k, v in json.loads((checkpoint / "config.json").read_text()).items() if k != "model_type"}
    (tmp_path / "bert_config.json").write_text(json.dumps(config))
    (tmp_path / "vocab.txt").write_bytes((checkpoint / "vocab.txt").read_bytes())
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        for name, value in hugging_face_tensors().items():
            name = "bert/" + name.replace("encoder.layer.", "encoder.layer_").replace(".", "/")
            if name.endswith("LayerNorm/weight"):
                name = name.removesuffix("weight") + "gamma"
            elif name.endswith("LayerNorm/bias"):
                name = name.removesuffix("bias") + "beta"
            elif "embeddings/" in name:
                name = name.removesuffix("/weight")
            elif name.endswith("/weight"):
                name, value = name.removesuffix("weight") + "kernel", value.T
            tf.compat.v1.get_variable(name, initializer=value)
            tf.compat.v1.get_variable(name + "/adam_m", initializer=value)
        tf.compat.v1.get_variable("cls/squad/output_bias", initializer=np.zeros(3, np.float32))
        tf.compat.v1.get_variable("global_step", initializer=np.int64(7))
        session.run(tf.compat.v1.global_variables_initializer())
        tf.compat.v1.train.Saver().save(session, str(tmp_path / "bert_model.ckpt"))
    found = open_checkpoint(str(tmp_path))
    assert found.format == "Google TF1" and found.encoder.activation == "gelu_approximate" and found.text.lowercase
    assert same_arrays(found.arrays(), open_checkpoint(str(checkpoint)).arrays())


@pytest.mark.parametrize(
    ("more", "lowercase"), [([], True), (["<S>", "<T>"], True), (["[unused1]", "[X]"], True), (["A"], False), (["##Y"], False)]
)
def test_googles_casing_is_told_from_the_vocabulary_or_the_tokenizer_config(tmp_path, more, lowercase):
    source = write_hugging_face(tmp_path / "a", config={"hidden_act": "relu"})
    checkpoints.write_checkpoint(open_checkpoint(str(source)), str(tmp_path / "b"), "google")
    vocabulary = [*VOCABULARY[: len(VOCABULARY) - len(more)], *more]
    (tmp_path / "b" / "vocab.txt").write_text("".join(t + "\n" for t in vocabulary), encoding="utf-8")
    (tmp_path / "b" / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    assert open_checkpoint(str(tmp_path / "b")).text == TextConfig(lowercase=False, strip_accents=False)
    (tmp_path / "b" / "tokenizer_config.json").unlink()
    assert open_checkpoint(str(tmp_path / "b")).text == TextConfig(lowercase=lowercase, strip_accents=lowercase)


NORMALIZER = {"type": "BertNormalizer", "lowercase": False, "strip_accents": None}


@pytest.mark.parametrize(
    ("tokenizer_config", "normalizer", "config", "lowercase", "strip"),
    [
        (None, None, {}, True, True),
        (None, None, {"do_lower_case": False}, False, False),
        (None, NORMALIZER, {"do_lower_case": True}, False, False),
        (None, {**NORMALIZER, "lowercase": True, "strip_accents": False}, {}, True, False),
        ({"strip_accents": True}, NORMALIZER, {}, False, True),
        ({"do_lower_case": True}, {**NORMALIZER, "strip_accents": False}, {}, True, True),
        ({}, {"type": "Lowercase"}, {"do_lower_case": False}, False, False),
    ],
)
def test_hugging_faces_casing_and_vocabulary_without_vocab_txt(
    tmp_path, caplog, tokenizer_config, normalizer, config, lowercase, strip
):
    path = write_hugging_face(tmp_path, config=config)
    (path / "vocab.txt").unlink()
    (path / "tokenizer_config.json").unlink()
    if tokenizer_config is not None:
        (path / "tokenizer_config.json").write_text(json.dumps(tokenizer_config))
    ids = {token: i for i, token in enumerate(VOCABULARY)}
    added = [{"content": "##x", "id": ids.pop("##x")}, {"content": "[CLS]", "id": ids["[CLS]"]}]
    document = {"model": {"type": "WordPiece", "vocab": ids}, "added_tokens": added, "normalizer": normalizer}
    (path / "tokenizer.json").write_text(json.dumps(document))
    found = open_checkpoint(str(path))
    added = (AddedToken(content="##x", normalized=True),)
    assert found.text == TextConfig(lowercase=lowercase, strip_accents=strip, added_tokens=added)
    assert found.vocabulary == VOCABULARY and not caplog.text


def test_shards_and_half_precision(tmp_path, checkpoint):
    path = write_hugging_face(tmp_path)
    (path / "model.safetensors").unlink()
    tensors = {name: tf.cast(tensor, tf.bfloat16) for name, tensor in hugging_face_tensors().items()}
    where = {name: f"model-{'query' in name:d}.safetensors" for name in tensors}
    for file in set(where.values()):
        save_tensorflow({name: t for name, t in tensors.items() if where[name] == file}, path / file)
    (path / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))
    found, plain = open_checkpoint(str(path)).arrays(), open_checkpoint(str(checkpoint)).arrays()
    assert set(found) == set(plain)
    for name, array in found.items():
        assert array.dtype == np.float32 and np.array_equal(array, tf.cast(tf.cast(plain[name], tf.bfloat16), tf.float32))


@pytest.mark.parametrize(
    ("rows", "tokens", "fits", "logged"),
    [(41, 41, True, False), (48, 41, True, False), (48, 33, True, False), (48, 32, False, False), (43, 41, True, True)],
)
def test_an_embedding_table_may_have_unused_rows(tmp_path, caplog, rows, tokens, fits, logged):
    tensors = hugging_face_tensors()
    tensors["embeddings.word_embeddings.weight"] = np.zeros((rows, 16), np.float32)
    path = write_hugging_face(tmp_path, tensors, {"vocab_size": rows})
    (path / "vocab.txt").write_text("".join(t + "\n" for t in VOCABULARY[:tokens]), encoding="utf-8")
    if fits:
        found = open_checkpoint(str(path))
        unused = f" and {rows - tokens} unused rows" if rows > tokens else ""
        assert f"{tokens} tokens{unused}\n" in checkpoints.summary(found)
        assert ("vocab.txt: 41 tokens, but the checkpoint has 43 embeddings; 2 rows are unused" in caplog.text) == logged
    else:
        with pytest.raises(DataError, match=r"vocab\.txt: \d+ tokens, but the checkpoint has \d+ embeddings; is the file cut"):
            open_checkpoint(str(path))


def test_a_token_classifier_is_no_classifier_of_texts(tmp_path):
    tensors = {**hugging_face_tensors(), **head_tensors(labels=3)}
    path = write_hugging_face(tmp_path, tensors, {"architectures": ["BertForTokenClassification"]})
    found = open_checkpoint(str(path))
    assert set(found.heads()) == {"tagger/kernel", "tagger/bias"} and found.head.kind == "tagger" and found.ignored == ()
    assert "pooler, token classifier\n" in checkpoints.summary(found)
    path = write_hugging_face(tmp_path, tensors, {"architectures": ["BertForMultipleChoice"]})
    found = open_checkpoint(str(path))
    assert found.heads() == {} and found.labels == () and found.ignored == ("classifier.bias", "classifier.weight")
    assert "not read:       classifier.bias and 1 more tensors" in checkpoints.summary(found)


def test_summary_counts_every_weight(tmp_path, checkpoint, trained):
    found = open_checkpoint(str(write_hugging_face(tmp_path, {**hugging_face_tensors(), **head_tensors()})))
    lines = checkpoints.summary(found).splitlines()
    everything = {**found.arrays(), **found.heads()}
    assert found.shapes == {name: array.shape for name, array in everything.items()}
    assert lines == [
        "format:         Hugging Face",
        "layers:         2, each with 2 heads",
        "width:          16, in the feed-forward layers 32",
        "longest input:  40 tokens, in 2 segments",
        "vocabulary:     41 tokens",
        "casing:         lowercased, accents stripped",
        "activation:     gelu (exact)",
        "heads:          pooler, masked LM, next sentence",
        f"parameters:     {sum(array.size for array in everything.values()):,}",
    ]
    assert "classifier of 2 labels (negative, positive)" in checkpoints.summary(open_checkpoint(str(trained)))


def test_keras_preset_directory(tmp_path, checkpoint):
    arrays = open_checkpoint(str(checkpoint)).arrays()
    backbone = keras_nlp.models.BertBackbone(
        vocabulary_size=len(VOCABULARY), num_layers=2, num_heads=2, hidden_dim=16, intermediate_dim=32, max_sequence_length=40
    )
    for variable in backbone.weights:
        variable.assign(arrays[variable.path])
    backbone.save_to_preset(str(tmp_path))
    keras_nlp.models.BertTokenizer(VOCABULARY, lowercase=True).save_to_preset(str(tmp_path))
    found = open_checkpoint(str(tmp_path))
    assert found.format == "Keras preset" and found.vocabulary == VOCABULARY
    assert found.text.lowercase and found.text.strip_accents and found.encoder.activation == "gelu_approximate"
    assert same_arrays(found.arrays(), arrays)
    (tmp_path / "model.weights.h5").unlink()
    backbone.save_to_preset(str(tmp_path), max_shard_size=5e-6)
    assert len(list(tmp_path.glob("model_*.weights.h5"))) > 1
    assert same_arrays(open_checkpoint(str(tmp_path)).arrays(), arrays)


def test_a_preset_by_name_goes_to_keras_hub(monkeypatch):
    asked = []

    def from_preset(name):
        asked.append(name)
        raise ValueError("no network\nand more")

    monkeypatch.setattr(keras_nlp.models.BertBackbone, "from_preset", from_preset)
    with pytest.raises(DataError, match="--init=bert_base_zh: could not be loaded as a Keras preset: no network; .*hf download google-bert/bert-base-chinese --include"):
        open_checkpoint("bert_base_zh")
    assert asked == ["bert_base_zh"]


def test_kbert_model_directory(trained):
    found = open_checkpoint(str(trained))
    assert found.format == "kbert" and found.vocabulary == VOCABULARY and found.encoder.activation == "gelu"
    arrays = found.arrays()
    assert "classifier/kernel" not in arrays and "token_embedding/embeddings" in arrays


def test_a_kbert_model_has_a_pooler_if_its_checkpoint_had_one_or_it_learnt_one(trained, tmp_path, data):
    assert open_checkpoint(str(trained)).has_pooler
    bare = {name: tensor for name, tensor in hugging_face_tensors().items() if not name.startswith("pooler.")}
    source = write_hugging_face(tmp_path / "bare", bare)
    flags = finetune_flags(source, data, tmp_path / "mean", epochs=0, pooling="mean")
    assert finetune.main(flags) == 0
    found = open_checkpoint(str(tmp_path / "mean"))
    assert not found.has_pooler and "pooled_dense/kernel" not in found.arrays()
    assert not any("pooled" in name for name in ModelDir(tmp_path / "mean").best().weights())
    assert len(kbert.load(tmp_path / "mean").predict(["a good film"])) == 1
    assert finetune.main([*flags, "--epochs=1"]) == 0  # resumes
    assert not open_checkpoint(str(tmp_path / "mean")).has_pooler


def test_a_kbert_model_without_a_checkpoint(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "m")
    shutil.rmtree(tmp_path / "m" / "checkpoints")
    with pytest.raises(DataError, match="a kbert model without a checkpoint yet; its training has not finished an epoch"):
        open_checkpoint(str(tmp_path / "m"))


def without(*names):
    return {k: v for k, v in hugging_face_tensors().items() if k not in names}


def part(*names):
    return {name: head_tensors()[name] for name in names}


QUERY = "encoder.layer.1.attention.self.query.weight"


@pytest.mark.parametrize(
    ("tensors", "config", "message"),
    [
        (without(QUERY), {}, f"tensor '{QUERY}' is missing"),
        (
            {**without(), "encoder.layer.2.output.dense.bias": np.zeros(16, np.float32)},
            {},
            "'encoder.layer.2.output.dense.bias' is not part of",
        ),
        ({**without(), QUERY: np.zeros((16, 8), np.float32)}, {}, f"tensor '{QUERY}' has shape"),
        (None, {"hidden_act": "swish"}, "hidden_act is 'swish'; kbert supports gelu"),
        (None, {"model_type": "roberta"}, "model_type is 'roberta'; kbert reads 'bert'"),
        (None, {"layer_norm_eps": "tiny"}, "layer_norm_eps is 'tiny'; expected a fraction"),
        (None, {"position_embedding_type": "relative_key"}, "position_embedding_type is 'relative_key'"),
        (None, {"vocab_size": 9}, "tokens, but the checkpoint has 9 embeddings"),
        (None, {"num_hidden_layers": "two"}, "num_hidden_layers is 'two'; expected a whole number of 1 or more"),
        (None, {"num_hidden_layers": True}, "num_hidden_layers is True; expected a whole number"),
        (None, {"num_hidden_layers": 10**9}, "num_hidden_layers is 1000000000; expected at most 1,000"),
        (None, {"hidden_size": -16}, "hidden_size is -16; expected a whole number of 1 or more"),
        (None, {"num_attention_heads": 3}, "num_attention_heads is 3, which does not divide hidden_size, 16"),
        (None, {"hidden_dropout_prob": 1.0}, "hidden_dropout_prob is 1.0; expected a fraction from 0, below 1"),
        (None, {"hidden_dropout_prob": None}, "hidden_dropout_prob is None; expected a fraction"),
        (None, {"hidden_act": ["gelu"]}, "hidden_act is ['gelu']; kbert supports gelu"),
        (None, {"vocab_size": 2 * len(VOCABULARY)}, "embeddings; is the file cut short?"),
        ({**without(), QUERY: np.zeros((16, 16), np.int8)}, {}, f"tensor '{QUERY}' holds I8 values, expected floating-point"),
        (
            {**without(), QUERY: np.full((16, 16), np.nan, np.float32)},
            {},
            f"tensor '{QUERY}' contains values that are not finite",
        ),
        ({**without(), f"bert.{QUERY}": np.zeros((16, 16), np.float32)}, {}, "is the same weight as"),
        (without("pooler.dense.bias"), {}, "tensor 'pooler.dense.bias' is missing"),
        ({**without(), **part("cls.predictions.bias")}, {}, "tensor 'cls.predictions.transform.dense.weight' is missing"),
        ({**without(), **head_tensors(labels=3)}, {"id2label": {"0": "a", "1": "b"}}, "id2label names 2 labels, but"),
        ({**without(), **head_tensors(labels=2)}, {"id2label": ["a", "b"]}, "id2label is ['a', 'b']; expected an object"),
        (None, {"architectures": "BertModel"}, "architectures is 'BertModel'; expected a list of names"),
    ],
)
def test_wrong_hugging_face_directories(tmp_path, tensors, config, message):
    with pytest.raises(DataError) as caught:
        open_checkpoint(str(write_hugging_face(tmp_path, tensors, config))).arrays()
    assert message in str(caught.value)


def test_incomplete_directories(tmp_path, monkeypatch):
    with pytest.raises(UsageError, match=r"no such directory, and no preset of that name; presets: .*bert_base_zh"):
        open_checkpoint(str(tmp_path / "none"))
    with pytest.raises(DataError, match="not a checkpoint: the directory has neither"):
        open_checkpoint(str(tmp_path))
    path = write_hugging_face(tmp_path / "hf")
    weights = (path / "model.safetensors").read_bytes()
    (path / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(DataError, match=r"model\.safetensors: not readable as safetensors"):
        open_checkpoint(str(path)).arrays()
    (path / "model.safetensors").rename(path / "pytorch_model.bin")
    monkeypatch.setitem(sys.modules, "torch", None)  # not installed
    with pytest.raises(DataError, match="a pickle, which can run code when read; convert it"):
        open_checkpoint(str(path))
    (path / "pytorch_model.bin").unlink()
    with pytest.raises(DataError, match=r"model\.safetensors: no such file"):
        open_checkpoint(str(path))
    (path / "vocab.txt").unlink()
    (path / "model.safetensors").write_bytes(weights)
    with pytest.raises(DataError, match=r"vocab\.txt: no such file"):
        open_checkpoint(str(path))
    (path / "config.json").write_text("{")
    with pytest.raises(DataError, match=r"config\.json: not readable as JSON"):
        open_checkpoint(str(path))
    (path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(DataError, match="not a BERT config: 'hidden_act' is missing"):
        open_checkpoint(str(path))


def test_google_directory_without_its_checkpoint(tmp_path, checkpoint):
    (tmp_path / "bert_config.json").write_bytes((checkpoint / "config.json").read_bytes())
    with pytest.raises(DataError, match=r"expected one \*\.ckpt\.index file"):
        open_checkpoint(str(tmp_path))


@pytest.mark.parametrize(
    ("config", "tokenizer_config", "tokenizer", "message"),
    [
        ({"is_decoder": True}, {}, {}, "config.json: is_decoder is True; kbert reads False"),
        ({"add_cross_attention": True}, {}, {}, "add_cross_attention is True"),
        (
            {},
            {"tokenizer_class": "BertJapaneseTokenizer", "word_tokenizer_type": "mecab"},
            {},
            "tokenizer_config.json: tokenizer_class is BertJapaneseTokenizer (word_tokenizer_type mecab, subword_tokenizer_type "
            "wordpiece), which kbert does not have: it would need MeCab",
        ),
        ({"tokenizer_class": "BertJapaneseTokenizer"}, {}, {}, "config.json: tokenizer_class is BertJapaneseTokenizer"),
        ({}, {"subword_tokenizer_type": "character"}, {}, "subword_tokenizer_type character"),
        ({}, {"do_basic_tokenize": False}, {}, "tokenizer_config.json: do_basic_tokenize is False; kbert reads True"),
        ({}, {"tokenize_chinese_chars": False}, {}, "tokenize_chinese_chars is False"),
        ({}, {"unk_token": "<unk>"}, {}, "unk_token is '<unk>'; kbert reads '[UNK]'"),
        ({}, {"cls_token": {"content": "[SEP]"}}, {}, "cls_token is '[SEP]'; kbert reads '[CLS]'"),
        ({}, {}, {"normalizer": {"type": "BertNormalizer", "clean_text": False}}, "tokenizer.json: clean_text is False"),
        ({}, {}, {"normalizer": {"type": "BertNormalizer", "handle_chinese_chars": False}}, "handle_chinese_chars is False"),
        ({}, {}, {"model": {"continuing_subword_prefix": "@@"}}, "continuing_subword_prefix is '@@'; kbert reads '##'"),
    ],
)
def test_settings_that_make_another_model_are_refused(tmp_path, config, tokenizer_config, tokenizer, message):
    path = write_hugging_face(tmp_path, config=config, tokenizer=tokenizer_config)
    (path / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(DataError) as caught:
        open_checkpoint(str(path))
    assert message in str(caught.value)


def test_settings_that_say_the_usual_are_taken(tmp_path):
    usual = {"never_split": None, "unk_token": {"content": "[UNK]"}, "added_tokens_decoder": {"0": {"content": "[PAD]"}}}
    path = write_hugging_face(tmp_path, config={"is_decoder": False}, tokenizer=usual)
    model = {"continuing_subword_prefix": "##", "max_input_chars_per_word": 100}
    (path / "tokenizer.json").write_text(json.dumps({"normalizer": NORMALIZER, "model": model}))
    assert open_checkpoint(str(path)).vocabulary == VOCABULARY


def test_added_tokens_are_counted(tmp_path, caplog):
    tensors = hugging_face_tensors()
    rows = tensors["embeddings.word_embeddings.weight"]
    tensors["embeddings.word_embeddings.weight"] = np.concatenate([rows, rows[:1]])
    path = write_hugging_face(tmp_path, tensors, {"vocab_size": len(VOCABULARY) + 1})
    (path / "added_tokens.json").write_text(json.dumps({"film42": len(VOCABULARY)}))
    found = open_checkpoint(str(path))
    assert found.vocabulary == [*VOCABULARY, "film42"] and not caplog.text
    assert found.text.added_tokens == (AddedToken(content="film42", normalized=True),)


def test_a_decoder_without_its_head_is_set_aside(tmp_path):
    tensors = {**hugging_face_tensors(), "cls.predictions.decoder.weight": np.zeros((3, 3), np.float32)}
    found = open_checkpoint(str(write_hugging_face(tmp_path, tensors)))
    assert found.ignored == ("cls.predictions.decoder.weight",) and found.heads() == {}


def test_two_outputs_of_one_label(tmp_path):
    tensors = {
        **hugging_face_tensors(),
        "classifier.weight": np.zeros((2, 16), np.float32),
        "classifier.bias": np.zeros(2, np.float32),
    }
    path = write_hugging_face(tmp_path, tensors, {"id2label": {"0": "same", "1": "same"}})
    with pytest.raises(DataError, match="id2label gives two outputs the same label: same, same"):
        open_checkpoint(str(path))


def test_a_directory_is_told_by_its_weights(tmp_path, monkeypatch):
    path = write_hugging_face(tmp_path / "both")
    (path / "bert_config.json").write_bytes((path / "config.json").read_bytes())
    assert open_checkpoint(str(path)).format == "Hugging Face"
    old = tmp_path / "old"
    old.mkdir()
    (old / "bert_config.json").write_bytes((path / "config.json").read_bytes())
    (old / "pytorch_model.bin").write_bytes(b"x")
    monkeypatch.setitem(sys.modules, "torch", None)  # not installed
    with pytest.raises(DataError, match="takes torch to read"):
        open_checkpoint(str(old))


def test_the_command_against_pickles_knows_shards_and_odd_names(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)  # not installed
    path = write_hugging_face(tmp_path / "it's")
    (path / "model.safetensors").unlink()
    (path / "pytorch_model.bin.index.json").write_text("{}")
    with pytest.raises(DataError) as caught:
        open_checkpoint(str(path))
    program, directory = shlex.split(str(caught.value).split("python -c ")[1])
    assert directory == str(path) and "pytorch_model*.bin" in program and "weights_only=True" in program
    compile(program, "command", "exec")
