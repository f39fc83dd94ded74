"""Read and write Keras presets of a BERT: a directory written by `save_to_preset`, or a name that KerasHub knows.

In: config.json, model.weights.h5, tokenizer.json, assets/tokenizer/vocabulary.txt. Out: a `Checkpoint`;
and the reverse. A directory's config is read as data, since Keras's own loader imports what a config names.
"""

import difflib
import re
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from kbert import runtime
from kbert.checkpoints import added_tokens, names
from kbert.checkpoints.casing import stated_tokens
from kbert.checkpoints.checkpoint import OWN_SIZES, Checkpoint, encoder_config, read_vocabulary
from kbert.checkpoints.tensor_matching import Tensor, Weights, match
from kbert.checkpoints.tokenizer_config import OTHERS, base_vocabulary, write_tokenizer_config
from kbert.config import EncoderConfig, TextConfig
from kbert.data.vocabulary import distinct
from kbert.errors import DataError, UsageError
from kbert.files import check_pointer, read_json

WRITTEN: tuple[str, ...] = ()  # heads that the form can store
# Presets that are at Hugging Face too.
PUBLISHED = {
    "bert_base_zh": "bert-base-chinese",
    "bert_base_en": "bert-base-cased",
    "bert_base_en_uncased": "bert-base-uncased",
    "bert_base_multi": "bert-base-multilingual-cased",
    "bert_large_en": "bert-large-cased",
    "bert_large_en_uncased": "bert-large-uncased",
}
PLACES = {
    "token_embedding": "reversible_embedding",
    "segment_embedding": "embedding",
    "embeddings_layer_norm": "layer_normalization",
    "pooled_dense": "dense",
}
UNREADABLE = (OSError, RuntimeError, ValueError, KeyError, TypeError)  # raised by h5py, depending on the damage


def read(path: Path, config: Any) -> Checkpoint:
    """Read a preset directory; `config` is its config.json.

    Raises:
        DataError: not a BERT, or a file is missing or damaged.
    """
    where, weights = path / "config.json", path / "model.weights.h5"
    encoder = encoder_config(
        _config(config, where, "BertBackbone"), where, OWN_SIZES, dropout="dropout", activation="gelu_approximate"
    )
    tokenizer = path / "tokenizer.json"
    settings = _config(read_json(tokenizer), tokenizer, "BertTokenizer")
    lowercase, strip = settings.get("lowercase"), settings.get("strip_accents", False)
    if not isinstance(lowercase, bool) or not isinstance(strip, bool):
        raise DataError(f"{tokenizer}: lowercase is {lowercase!r} and strip_accents {strip!r}; expected true or false")
    added = added_tokens.listed(path)
    file = path / "assets" / "tokenizer" / "vocabulary.txt"
    vocabulary = read_vocabulary(file, encoder, stated=stated_tokens(path), added=added)
    vocabulary, casing = added_tokens.placed(added, path, vocabulary, _casing(lowercase, strip), encoder.vocabulary_size)
    table = [row for row in names.rows(encoder) if not row.of_head]
    places = {_h5_name(row.path): row.path for row in table}
    tensors = {places.get(_newer(name), name): tensor for name, tensor in _list(weights).items()}
    for row in table:
        if row.path not in tensors:
            raise DataError(f"{weights}: tensor {_h5_name(row.path)!r} is missing")
    matched = Weights(None, match(tensors, table, None, weights, ()), _read)
    return Checkpoint(
        format="Keras preset",
        encoder=encoder,
        text=casing,
        vocabulary=vocabulary,
        arrays=matched.encoder,
        heads=dict,
        shapes=matched.shapes,
        source=matched.source(weights),
        ignored=("task.weights.h5",) if (path / "task.weights.h5").exists() else (),
    )


def read_name(name: str) -> Checkpoint:
    """Load a preset by its name, which KerasHub downloads.

    Raises:
        UsageError: KerasHub knows no such preset.
        DataError: it could not be downloaded or loaded.
    """
    runtime.start()
    import keras_nlp

    presets = keras_nlp.models.BertBackbone.presets
    if name not in presets and not name.startswith("kaggle://"):  # KerasHub's full names of presets
        if Path(name).expanduser().exists():
            raise UsageError(f"--init={name}: is a file; name the directory that holds the checkpoint")
        path = Path(name)
        like_a_path = path.parent.is_dir() if path.parent != Path() else name.startswith(".")
        if not like_a_path and re.fullmatch(r"\w[\w.-]*/[\w.-]+|bert-[\w.-]+|\w+://.*", name):
            raise UsageError(
                f"--init={name}: no such directory, and kbert downloads none by such a name; download the model (config.json, "
                f"model.safetensors and vocab.txt of a BERT at Hugging Face) and give its directory{_download(name)}"
            )
        close = difflib.get_close_matches(name, presets, n=1)
        hint = f" (did you mean {close[0]}?)" if close else ""
        raise UsageError(
            f"--init={name}: no such directory, and no preset of that name{hint}; presets: {', '.join(sorted(presets))}"
        )
    try:
        backbone = keras_nlp.models.BertBackbone.from_preset(name)
        tokenizer = keras_nlp.models.BertTokenizer.from_preset(name)
    except Exception as error:  # KerasHub passes on the exceptions of several downloaders and file readers
        why = f"{_first_line(error)}{_download(name)}"
        raise DataError(f"--init={name}: could not be loaded as a Keras preset: {why}") from None
    if not isinstance(backbone, keras_nlp.models.BertBackbone):
        raise DataError(f"--init={name}: holds a {type(backbone).__name__}, not a BertBackbone")
    sizes = {key: getattr(backbone, key) for key in (*OWN_SIZES, "dropout")}
    return Checkpoint(
        format="Keras preset",
        encoder=EncoderConfig(**sizes, activation="gelu_approximate"),
        text=_casing(tokenizer.lowercase, tokenizer.strip_accents),
        vocabulary=list(tokenizer.get_vocabulary()),
        arrays=lambda: {v.path: np.asarray(v) for v in backbone.weights},
        heads=dict,
        shapes={v.path: tuple(v.shape) for v in backbone.weights},
    )


def _download(name: str) -> str:
    """Return the command that downloads a model by its name at Hugging Face; empty if it has none there that is known."""
    known = PUBLISHED.get(name, name)
    if re.fullmatch(r"bert-(base|large)-[\w.-]+", known):
        known = f"google-bert/{known}"
    if not re.fullmatch(r"\w[\w.-]*/[\w.-]+", known):
        return ""
    folder = known.split("/")[1]
    return (
        "; where the hub is reachable: pip install huggingface_hub && "
        f"hf download {known} --include '*.json' '*.txt' '*.safetensors' --local-dir {folder}, then --init={folder}"
    )


def _config(document: Any, where: Path, kind: str) -> dict[str, Any]:
    """Return the settings of a Keras object, checking its kind."""
    found = document.get("registered_name") if isinstance(document, dict) else None
    if found not in (f"keras_hub>{kind}", f"keras_nlp>{kind}"):
        raise DataError(f"{where}: holds a {found!r}, not a {kind}")
    settings = document.get("config")
    if not isinstance(settings, dict):
        raise DataError(f"{where}: config is {settings!r}; expected an object")
    return settings


def _casing(lowercase: bool, strip: bool) -> TextConfig:
    # KerasHub's uncased presets state strip_accents=False, but uncased BERT was trained without accents.
    return TextConfig(lowercase=lowercase, strip_accents=lowercase or strip)


def _h5_name(path: str) -> str:
    """Return the path at which Keras 3 stores a variable: layers numbered by class, then attributes."""
    layer, *inner, kind = path.split("/")
    place = PLACES.get(layer, layer)
    if layer.startswith("transformer_layer_"):
        number = int(layer.removeprefix("transformer_layer_"))
        place = f"transformer_encoder_{number}" if number else "transformer_encoder"
        names = {"query": "query_dense", "key": "key_dense", "value": "value_dense", "attention_output": "output_dense"}
        place = "/".join([place, "_" + inner[0], *(names[name] for name in inner[1:])])
    return f"layers/{place}/vars/{int(kind in ('bias', 'beta'))}"


def _newer(name: str) -> str:
    """Return the name that Keras 3 gives a tensor, for one that Keras 2 (until 2.13, and until 2.15) gave it."""
    name = name.replace("_layer_checkpoint_dependencies/", "layers/", 1)
    return re.sub(r"(?<=/_self_attention_layer/)_(?=(query|key|value|output)_dense/)", "", name)


def _list(weights: Path) -> dict[str, Tensor]:
    """Return the tensors of a model.weights.h5 by their paths; without one, those of its shards."""
    import h5py  # type: ignore[import-untyped]  # Keras's weights format

    found: dict[str, Tensor] = {}

    def add(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            found[name] = Tensor(name, where, tuple(item.shape), item.attrs.get("dtype") or str(item.dtype))

    for where in [weights] if weights.exists() else sorted(weights.parent.glob("model_*.weights.h5")):
        check_pointer(where)
        try:
            with h5py.File(where, "r") as file:
                file.visititems(add)
        except UNREADABLE as error:
            raise _unreadable(where, error) from None
    if not (found or weights.exists()):
        raise DataError(f"{weights}: no such file")
    return found


def _read(tensors: list[Tensor]) -> Iterator[tuple[Tensor, np.ndarray]]:
    import h5py
    import tensorflow as tf

    for where, group in groupby(sorted(tensors, key=lambda t: t.where), key=lambda t: t.where):
        try:
            with h5py.File(where, "r") as file:
                for tensor in group:
                    values = file[tensor.name][()]
                    # h5py has no bfloat16, which Keras stores as two opaque bytes.
                    yield tensor, values.view(tf.bfloat16.as_numpy_dtype) if tensor.dtype == "bfloat16" else values
        except UNREADABLE as error:
            raise _unreadable(where, error) from None


def _backbone(encoder: EncoderConfig) -> Any:
    import keras_nlp

    return keras_nlp.models.BertBackbone(
        **{key: getattr(encoder, key) for key in (*OWN_SIZES, "dropout")}, dtype="float32", name="bert_backbone"
    )


def _unreadable(weights: Path, error: Exception) -> DataError:
    return DataError(f"{weights}: not readable as Keras weights: {_first_line(error)}")


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def write(checkpoint: Checkpoint, path: Path) -> list[str]:
    """Write a preset that `BertBackbone.from_preset` reads, with GELU as its tanh approximation.

    Returns:
        Notices for the user.

    Raises:
        UsageError: a preset cannot represent the checkpoint.
    """
    import keras_nlp

    if checkpoint.text.lowercase and not checkpoint.text.strip_accents:
        raise UsageError(
            "--format=keras_preset: the checkpoint lowercases and keeps accents, but presets of lowercased text are read "
            "as stripping them; use --format=hugging_face"
        )
    if not checkpoint.has_pooler:
        raise UsageError("--format=keras_preset: the checkpoint has no pooler, and a preset would contain a random one")
    if "[MASK]" not in checkpoint.vocabulary:
        raise UsageError("--format=keras_preset: the vocabulary has no [MASK], which KerasHub's tokenizer requires")
    backbone, arrays = _backbone(checkpoint.encoder), checkpoint.arrays()
    for variable in backbone.weights:
        variable.assign(arrays[variable.path])
    backbone.save_to_preset(str(path))
    vocabulary = base_vocabulary(checkpoint)
    casing = {"lowercase": checkpoint.text.lowercase, "strip_accents": checkpoint.text.strip_accents}
    keras_nlp.models.BertTokenizer(distinct(vocabulary), **casing).save_to_preset(str(path))
    if len(vocabulary) < checkpoint.encoder.vocabulary_size or checkpoint.text.added_tokens:
        write_tokenizer_config(checkpoint, path)
    left_out = [name for part, name in names.PRETRAINING.items() if any(p.startswith(part + "/") for p in checkpoint.shapes)]
    notices = [f"omitted: {', '.join(left_out)}; a preset holds the encoder only"] if left_out else []
    if checkpoint.text.added_tokens:
        notices.append(OTHERS)
    e = checkpoint.encoder
    if e.attention_rate != e.dropout:
        notices.append(f"a preset has a single dropout, {e.dropout}; the attention dropout, {e.attention_rate}, is not written")
    return notices
