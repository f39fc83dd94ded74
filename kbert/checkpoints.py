"""BERT checkpoints in any of the forms they are distributed in, read by looking at what is there.

In: a directory (Hugging Face, Google TF1, Keras preset, kbert model) or a preset's name. Out: a
`Checkpoint`: shape, casing, vocabulary, and the weights under the backbone's own variable paths.
Nothing read here can execute: pickled `pytorch_model.bin` files are refused.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kbert import text
from kbert.config import EncoderConfig, ModelConfig, TextConfig, from_json, read_json
from kbert.errors import DataError, UsageError
from kbert.model_dir import ModelDir

Arrays = dict[str, np.ndarray]

# Hugging Face's names of activations; `gelu_new` and Google's own gelu are the tanh approximation.
ACTIVATIONS = {"gelu": "gelu", "gelu_new": "gelu_approximate", "gelu_pytorch_tanh": "gelu_approximate", "relu": "relu"}

# Tensors beside the encoder that checkpoints carry: heads of other tasks, a constant, the training step.
NOT_OURS = ("cls.", "cls/", "classifier.", "qa_outputs.", "output_", "embeddings.position_ids", "global_step")


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint is; `arrays` reads its weights, when called."""

    format: str
    encoder: EncoderConfig
    text: TextConfig
    vocabulary: list[str]
    arrays: Callable[[], Arrays]


def open_checkpoint(init: str) -> Checkpoint:
    """Read what a checkpoint is, without its weights.

    Args:
        init: a directory, or the name of a KerasHub preset such as `bert_base_zh` (needs the network).

    Raises:
        UsageError: neither a directory nor a known preset.
        DataError: the directory is no BERT checkpoint, or a file of it is missing or malformed.
    """
    path = Path(init).expanduser()
    if not path.is_dir():
        return _preset(init)
    if (path / "bert_config.json").exists():
        return _google(path)
    if not (path / "config.json").exists():
        raise DataError(
            f"--init={init}: no checkpoint: the directory has neither config.json (Hugging Face, Keras, kbert) "
            "nor bert_config.json (Google)"
        )
    config = read_json(path / "config.json")
    if isinstance(config, dict) and "kbert" in config:
        return _kbert(path, config)
    if isinstance(config, dict) and "registered_name" in config:
        return _keras(str(path), init)
    return _hugging_face(path, config)


def _hugging_face(path: Path, config: Any) -> Checkpoint:
    where = path / "config.json"
    if not isinstance(config, dict) or config.get("model_type") != "bert":
        found = config.get("model_type") if isinstance(config, dict) else None
        raise DataError(f"{where}: model_type is {found!r}; kbert reads 'bert'")
    if config.get("position_embedding_type", "absolute") != "absolute":
        raise DataError(f"{where}: position_embedding_type is {config['position_embedding_type']!r}; kbert reads 'absolute'")
    encoder = _shape(config, where)
    weights = path / "model.safetensors"
    if not weights.exists():
        if (path / "pytorch_model.bin").exists():
            raise DataError(
                f"{path}: has pytorch_model.bin only, a pickle, which can run code when read; convert it with transformers: "
                "python -c \"from transformers import AutoModel as M; M.from_pretrained('DIR').save_pretrained('OUT')\""
            )
        raise DataError(f"{weights}: no such file")
    tokenizer = path / "tokenizer_config.json"
    settings = read_json(tokenizer) if tokenizer.exists() else {}
    lowercase = bool(settings.get("do_lower_case", True))
    strip = settings.get("strip_accents")
    return Checkpoint(
        format="Hugging Face",
        encoder=encoder,
        text=TextConfig(lowercase=lowercase, strip_accents=lowercase if strip is None else bool(strip)),
        vocabulary=_vocabulary(path / "vocab.txt", encoder),
        arrays=lambda: _named(encoder, _safetensors(weights), weights, _hugging_face_names(encoder)),
    )


def _google(path: Path) -> Checkpoint:
    encoder = _shape(read_json(path / "bert_config.json"), path / "bert_config.json", activation="gelu_new")
    found = sorted(path.glob("*.ckpt*.index"))
    if len(found) != 1:
        raise DataError(f"{path}: expected one *.ckpt.index file beside bert_config.json, found {len(found)}")
    vocabulary = _vocabulary(path / "vocab.txt", encoder)
    # Google's releases say nothing of casing; as their users do, tell it from the vocabulary: uncased ones hold no capitals.
    lowercase = not any(any("A" <= c <= "Z" for c in token) for token in vocabulary if not token.startswith("["))
    prefix = found[0].with_suffix("")
    return Checkpoint(
        format="Google TF1",
        encoder=encoder,
        text=TextConfig(lowercase=lowercase, strip_accents=lowercase),
        vocabulary=vocabulary,
        arrays=lambda: _named(encoder, _tf_checkpoint(prefix), prefix, _google_names(encoder)),
    )


def _kbert(path: Path, config: Any) -> Checkpoint:
    directory = ModelDir(path)
    model: ModelConfig = directory.read_config()[0]

    def arrays() -> Arrays:
        names = set(_paths(model.encoder))
        return {name: array for name, array in directory.best().weights().items() if name in names}

    return Checkpoint("kbert", model.encoder, model.text, directory.vocabulary(), arrays)


def _preset(name: str) -> Checkpoint:
    import keras_nlp

    presets = keras_nlp.models.BertBackbone.presets
    if name not in presets and "://" not in name:
        raise UsageError(f"--init={name}: no such directory, and no preset of that name; presets: {', '.join(sorted(presets))}")
    return _keras(name, name)


def _keras(source: str, init: str) -> Checkpoint:
    import keras_nlp

    try:
        backbone = keras_nlp.models.BertBackbone.from_preset(source)
        tokenizer = keras_nlp.models.BertTokenizer.from_preset(source)
    except Exception as error:  # KerasHub lets the exceptions of several downloaders and file readers through
        raise DataError(f"--init={init}: could not be loaded as a Keras preset: {str(error).strip().splitlines()[0]}") from None
    if not isinstance(backbone, keras_nlp.models.BertBackbone):
        raise DataError(f"--init={init}: holds a {type(backbone).__name__}, not a BertBackbone")
    encoder = EncoderConfig(
        vocabulary_size=backbone.vocabulary_size,
        num_layers=backbone.num_layers,
        num_heads=backbone.num_heads,
        hidden_dim=backbone.hidden_dim,
        intermediate_dim=backbone.intermediate_dim,
        max_sequence_length=backbone.max_sequence_length,
        num_segments=backbone.num_segments,
        dropout=backbone.dropout,
        activation="gelu_approximate",
    )
    # KerasHub's uncased presets say strip_accents=False, but uncased BERT was trained without accents.
    return Checkpoint(
        format="Keras preset",
        encoder=encoder,
        text=TextConfig(lowercase=tokenizer.lowercase, strip_accents=tokenizer.lowercase or tokenizer.strip_accents),
        vocabulary=list(tokenizer.get_vocabulary()),
        arrays=lambda: {v.path: np.asarray(v) for v in backbone.weights},
    )


def _shape(config: Any, where: Path, activation: str | None = None) -> EncoderConfig:
    """The encoder's shape from a Hugging Face or Google config, which share these keys."""
    try:
        act = activation if activation and config["hidden_act"] == "gelu" else config["hidden_act"]
        if act not in ACTIVATIONS:
            raise DataError(f"{where}: hidden_act is {act!r}; kbert knows {', '.join(ACTIVATIONS)}")
        if config.get("layer_norm_eps", 1e-12) != 1e-12:
            raise DataError(f"{where}: layer_norm_eps is {config['layer_norm_eps']!r}; kbert reads 1e-12")
        return from_json(
            EncoderConfig,
            {
                "vocabulary_size": config["vocab_size"],
                "num_layers": config["num_hidden_layers"],
                "num_heads": config["num_attention_heads"],
                "hidden_dim": config["hidden_size"],
                "intermediate_dim": config["intermediate_size"],
                "max_sequence_length": config["max_position_embeddings"],
                "num_segments": config["type_vocab_size"],
                "dropout": config["hidden_dropout_prob"],
                "activation": ACTIVATIONS[act],
            },
            str(where),
        )
    except (KeyError, TypeError) as error:
        raise DataError(f"{where}: not a BERT config: {error} is missing") from None


def _vocabulary(path: Path, encoder: EncoderConfig) -> list[str]:
    vocabulary = text.read_vocabulary(path)
    if len(vocabulary) > encoder.vocabulary_size:
        raise DataError(f"{path}: {len(vocabulary):,} tokens, but the checkpoint has {encoder.vocabulary_size:,} embeddings")
    return vocabulary


def _paths(encoder: EncoderConfig) -> list[str]:
    return [path for path, _ in _hugging_face_names(encoder)]


def _hugging_face_names(encoder: EncoderConfig) -> Iterable[tuple[str, str]]:
    """(variable path of the backbone, Hugging Face tensor name), over all weights."""
    yield "token_embedding/embeddings", "embeddings.word_embeddings.weight"
    yield "position_embedding/embeddings", "embeddings.position_embeddings.weight"
    yield "segment_embedding/embeddings", "embeddings.token_type_embeddings.weight"
    yield "embeddings_layer_norm/gamma", "embeddings.LayerNorm.weight"
    yield "embeddings_layer_norm/beta", "embeddings.LayerNorm.bias"
    for i in range(encoder.num_layers):
        ours, theirs = f"transformer_layer_{i}", f"encoder.layer.{i}"
        dense = [(f"self_attention_layer/{p}", f"attention.self.{p}") for p in ("query", "key", "value")]
        dense += [
            ("self_attention_layer/attention_output", "attention.output.dense"),
            ("feedforward_intermediate_dense", "intermediate.dense"),
            ("feedforward_output_dense", "output.dense"),
        ]
        for our, their in dense:
            yield f"{ours}/{our}/kernel", f"{theirs}.{their}.weight"
            yield f"{ours}/{our}/bias", f"{theirs}.{their}.bias"
        for our, their in (("self_attention_layer_norm", "attention.output"), ("feedforward_layer_norm", "output")):
            yield f"{ours}/{our}/gamma", f"{theirs}.{their}.LayerNorm.weight"
            yield f"{ours}/{our}/beta", f"{theirs}.{their}.LayerNorm.bias"
    yield "pooled_dense/kernel", "pooler.dense.weight"
    yield "pooled_dense/bias", "pooler.dense.bias"


def _google_names(encoder: EncoderConfig) -> Iterable[tuple[str, str]]:
    """(variable path of the backbone, TF1 variable name), over all weights."""
    for ours, theirs in _hugging_face_names(encoder):
        name = theirs.replace("encoder.layer.", "encoder.layer_").replace(".", "/")
        if ours.endswith("embeddings"):
            name = name.removesuffix("/weight")
        if ours.endswith("gamma"):
            name = name.removesuffix("weight") + "gamma"
        if ours.endswith("beta"):
            name = name.removesuffix("bias") + "beta"
        yield ours, name.removesuffix("/weight") + ("/kernel" if ours.endswith("kernel") else "")


def _named(
    encoder: EncoderConfig, tensors: Iterator[tuple[str, np.ndarray]], where: Path, names: Iterable[tuple[str, str]]
) -> Arrays:
    """Tensors of a foreign checkpoint under the backbone's paths and in its shapes."""
    wanted = {their: our for our, their in names}
    arrays: Arrays = {}
    for name, tensor in tensors:
        plain = name.removeprefix("bert.").removeprefix("bert/")
        plain = plain.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")
        if plain in wanted:
            path = wanted[plain]
            # PyTorch's Linear keeps [out, in].
            array = tensor.T if path.endswith("kernel") and plain.endswith(".weight") else tensor
            arrays[path] = _reshaped(array, path, encoder, f"{where}: tensor {name!r}")
        elif not plain.startswith(NOT_OURS) and not plain.endswith(("/adam_m", "/adam_v")):
            raise DataError(f"{where}: tensor {name!r} has no place in a BERT of {encoder.num_layers} layers")
    missing = [their for their, our in wanted.items() if our not in arrays and not our.startswith("pooled_dense/")]
    if missing:
        raise DataError(f"{where}: tensor {missing[0]!r} is missing")
    return arrays


def _reshaped(array: np.ndarray, path: str, encoder: EncoderConfig, where: str) -> np.ndarray:
    """A foreign [in, out] matrix or [out] bias in KerasHub's shape, which splits the heads."""
    heads, hidden = encoder.num_heads, encoder.hidden_dim
    size = hidden // heads
    shapes: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {}
    for p in ("query", "key", "value"):
        shapes[f"{p}/kernel"] = ((hidden, hidden), (hidden, heads, size))
        shapes[f"{p}/bias"] = ((hidden,), (heads, size))
    shapes["attention_output/kernel"] = ((hidden, hidden), (heads, size, hidden))
    flat, split = shapes.get("/".join(path.split("/")[-2:]), (array.shape, array.shape))
    if array.shape != flat:
        raise DataError(f"{where} has shape {array.shape}, expected {flat}")
    return np.ascontiguousarray(array.reshape(split), dtype=np.float32)


def _safetensors(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    from safetensors import SafetensorError, safe_open

    try:
        # Through TensorFlow, since numpy has no bfloat16.
        with safe_open(path, framework="tf") as file:
            for name in file.keys():  # noqa: SIM118  (it is no dict)
                yield name, file.get_tensor(name).numpy()
    except (SafetensorError, OSError) as error:
        raise DataError(f"{path}: not readable as safetensors: {error}") from None


def _tf_checkpoint(prefix: Path) -> Iterator[tuple[str, np.ndarray]]:
    import tensorflow as tf

    try:
        reader = tf.train.load_checkpoint(str(prefix))
        for name in reader.get_variable_to_shape_map():
            yield name, np.asarray(reader.get_tensor(name))
    except (tf.errors.OpError, ValueError, RuntimeError) as error:
        raise DataError(f"{prefix}: not readable as a TensorFlow checkpoint: {str(error).splitlines()[0]}") from None


def describe(checkpoint: Checkpoint) -> str:
    """One line for the user."""
    e, t = checkpoint.encoder, checkpoint.text
    return (
        f"{checkpoint.format} BERT: {e.num_layers} layers, {e.hidden_dim} wide, {e.num_heads} heads, "
        f"{len(checkpoint.vocabulary):,} tokens, {'uncased' if t.lowercase else 'cased'}, {e.activation}"
    )
