"""Read and write Hugging Face BERT directories: config.json, model.safetensors, vocab.txt or tokenizer.json.

In: a directory written by transformers' `save_pretrained` for `BertModel`, `BertForPreTraining`,
`BertForMaskedLM`, `BertForSequenceClassification`, `BertForTokenClassification` or `BertForQuestionAnswering`. Out: a
`Checkpoint`; and the reverse.
"""

import shlex
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import save_file

from kbert.checkpoints import added_tokens, names
from kbert.checkpoints.casing import read_casing, read_tokenizer, stated_tokens
from kbert.checkpoints.checkpoint import (
    Arrays,
    Checkpoint,
    bert_config,
    check_size,
    only_value,
    read_vocabulary,
    written_sizes,
)
from kbert.checkpoints.head import Head
from kbert.checkpoints.names import HEADS, OUTPUTS
from kbert.checkpoints.tensor_files import safetensors_list, safetensors_read
from kbert.checkpoints.tensor_matching import Tensor, Weights, deduplicated, match, sizes
from kbert.checkpoints.tokenizer_config import base_vocabulary, write_tokenizer_config
from kbert.config import EncoderConfig
from kbert.data import tokenizer as text
from kbert.errors import DataError
from kbert.files import read_json, write_json, write_text

PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json")
UNPICKLE = (
    "import glob, sys, torch, safetensors.torch as s; d = sys.argv[1]; w = {}; "
    "[w.update(torch.load(f, weights_only=True, map_location='cpu')) for f in glob.glob(d + '/pytorch_model*.bin')]; "
    "s.save_file({k: v.clone().contiguous() for k, v in w.items()}, d + '/model.safetensors')"
)
# The decoder's weights are those of the embeddings and the bias, and may be stored again or not.
DECODER, DECODER_BIAS = "cls.predictions.decoder.weight", "cls.predictions.decoder.bias"
# Settings that would change the model with the same weights, with the only value that kbert supports.
ONLY = {"position_embedding_type": "absolute", "is_decoder": False, "add_cross_attention": False}
WRITTEN_ACTIVATIONS = {"gelu": "gelu", "gelu_approximate": "gelu_new", "relu": "relu"}
CLASSES = {
    frozenset({"mlm_head", "nsp_head"}): "BertForPreTraining",
    frozenset({"mlm_head"}): "BertForMaskedLM",
    frozenset({"nsp_head"}): "BertForNextSentencePrediction",
    frozenset({"classifier"}): "BertForSequenceClassification",
    frozenset({"tagger"}): "BertForTokenClassification",
    frozenset({"span"}): "BertForQuestionAnswering",
    frozenset(): "BertModel",
}
WRITTEN = ("classifier", "tagger", "span")  # heads that a transformers class supports
WITHOUT_POOLER = ("BertForMaskedLM", "BertForTokenClassification", "BertForQuestionAnswering")
PREFIX: dict[str, str] = {"BertModel": ""}  # of the encoder's tensors; the classes with a head keep it under "bert."


def read(path: Path, config: Any) -> Checkpoint:
    """Read a Hugging Face directory; `config` is its config.json.

    Raises:
        DataError: not a BERT, one with unsupported settings, or a damaged file.
    """
    where = path / "config.json"
    if not isinstance(config, dict) or config.get("model_type") != "bert":
        found = config.get("model_type") if isinstance(config, dict) else None
        raise DataError(f"{where}: model_type is {found!r}; kbert reads 'bert'")
    only_value(config, ONLY, where)
    encoder = bert_config(config, where)
    file, tensors = _tensors(path)
    added = added_tokens.listed(path)
    vocabulary = _vocabulary(path, encoder, added)
    vocabulary, casing = added_tokens.placed(added, path, vocabulary, read_casing(path, config), encoder.vocabulary_size)

    plain = [(_plain(t.name), t) for t in tensors]
    by_name = deduplicated((name, t) for name, t in plain if name != "embeddings.position_ids")
    # Classifiers of texts, of tokens and of multiple choice share a name.
    classes = _names(config, "architectures", where) or [CLASSES[frozenset({"classifier"})]]
    possible = [part for part in OUTPUTS if part == "span" or CLASSES[frozenset({part})] in classes]
    outputs = sizes(by_name, possible, "hugging_face")
    unread = {name for name, _ in names.PLACES.values()} - {names.PLACES[part][0] for part in outputs}
    ignored = sorted(name for name in by_name if name.partition(".")[0] in unread)
    # Without the head they belong to, they are reported as unexpected.
    has_head = any(name.startswith("cls.predictions.transform.") for name in by_name)
    decoder = by_name.pop(DECODER, None) if has_head else None
    decoder_bias = by_name.pop(DECODER_BIAS, None) if has_head else None
    if decoder is not None and decoder.shape != (encoder.vocabulary_size, encoder.hidden_dim):
        raise DataError(f"{decoder} has shape {decoder.shape}, expected {(encoder.vocabulary_size, encoder.hidden_dim)}")
    if decoder_bias is not None:
        by_name.setdefault("cls.predictions.bias", decoder_bias)
    kept = {name: tensor for name, tensor in by_name.items() if name not in ignored}
    table = names.rows(encoder, outputs)
    weights = Weights("hugging_face", match(kept, table, "hugging_face", file, ("pooled_dense", *HEADS)), safetensors_read)

    def heads() -> Arrays:
        arrays = weights.heads()
        _check_tied(weights, decoder, "token_embedding/embeddings")
        _check_tied(weights, decoder_bias, "mlm_head/output_bias")
        return arrays

    return Checkpoint(
        format="Hugging Face",
        encoder=encoder,
        text=casing,
        vocabulary=vocabulary,
        arrays=weights.encoder,
        heads=heads,
        shapes=weights.shapes,
        ignored=tuple(by_name[name].name for name in ignored),
        head=_head(config, where, outputs),
    )


def _head(config: dict[str, Any], where: Path, outputs: dict[str, int]) -> Head | None:
    """Return the directory's fine-tuned head."""
    if not outputs:
        return None
    kind, size = next(iter(outputs.items()))
    options = {"pooling": "pooler", "problem_type": config.get("problem_type")} if kind == "classifier" else {}
    return Head(kind, size, _labels(config, where, size) if kind != "span" else (), options)


def _tensors(path: Path) -> tuple[Path, list[Tensor]]:
    """Find the weights' file, or the index of several; also return all tensors."""
    file, index = path / "model.safetensors", path / "model.safetensors.index.json"
    if file.exists():
        return file, safetensors_list(file)
    if not index.exists():
        if any((path / name).exists() for name in PICKLES):
            raise DataError(
                f"{path}: only has {PICKLES[0]}, a pickle, which can run code when read; convert it in an environment with "
                f'torch, whose weights-only loader runs none: python -c "{UNPICKLE}" {shlex.quote(str(path))}'
            )
        raise DataError(f"{file}: no such file")
    listed = read_json(index)
    parts = listed.get("weight_map") if isinstance(listed, dict) else None
    if not isinstance(parts, dict) or not all(isinstance(p, str) and Path(p).name == p for p in parts.values()):
        raise DataError(f"{index}: expected an object weight_map from tensors to files of this directory")
    tensors = [tensor for part in sorted(set(parts.values())) for tensor in safetensors_list(path / part)]
    held = {(t.name, t.where.name) for t in tensors}
    for name, part in parts.items():
        if (name, part) not in held:
            raise DataError(f"{path / part}: tensor {name!r} is missing, which {index.name} says is here")
    return index, tensors


def _plain(name: str) -> str:
    """Normalise a tensor's name to `BertModel`'s, in the newer of two spellings."""
    return name.removeprefix("bert.").replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")


def _check_tied(weights: Weights, copy: Tensor | None, path: str) -> None:
    if copy is None or path not in weights.matched or copy == weights.matched[path][1]:
        return
    original = weights.matched[path][1]
    values = dict(weights.read([copy, original]))
    if not np.array_equal(values[copy], values[original]):
        raise DataError(f"{copy} differs from {original.name!r}; in BERT they are shared")


def _names(config: dict[str, Any], key: str, where: Path) -> list[str]:
    found = config.get(key) or []
    if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
        raise DataError(f"{where}: {key} is {found!r}; expected a list of names")
    return found


def _labels(config: dict[str, Any], where: Path, outputs: int) -> tuple[str, ...]:
    named = config.get("id2label")
    if named is None:
        return ()
    if not isinstance(named, dict) or sorted(named) != sorted(map(str, range(len(named)))):
        raise DataError(f'{where}: id2label is {named!r}; expected an object from "0", "1", … to labels')
    labels = tuple(str(named[str(i)]) for i in range(len(named)))
    if len(set(labels)) < len(labels):
        raise DataError(f"{where}: id2label gives two outputs the same label: {', '.join(labels)}")
    if len(labels) != outputs:
        raise DataError(f"{where}: id2label names {len(labels)} labels, but the classifier has {outputs} outputs")
    return labels


def _vocabulary(path: Path, encoder: EncoderConfig, added: Collection[str]) -> list[str]:
    """Read the tokens of WordPiece from vocab.txt, else from tokenizer.json; `added` may have rows besides."""
    file = path / "tokenizer.json"
    if (path / "vocab.txt").exists() or not file.exists():
        return read_vocabulary(path / "vocab.txt", encoder, stated=stated_tokens(path), added=added)
    model = read_tokenizer(path).get("model")
    if not isinstance(model, dict) or model.get("type", "WordPiece") != "WordPiece" or not isinstance(model.get("vocab"), dict):
        raise DataError(f"{file}: the model is not a WordPiece with a vocabulary")
    try:
        numbers = model["vocab"]
        tokens = sorted(numbers, key=lambda token: numbers[token])
    except TypeError as error:
        raise DataError(f"{file}: not a tokenizer: {error}") from None
    if [numbers[token] for token in tokens] != list(range(len(tokens))):
        raise DataError(f"{file}: the tokens' ids are not 0, 1, 2, … without gaps")
    text.check_vocabulary(tokens, str(file))
    check_size(len(tokens), encoder, file, len(set(added) - set(tokens)))
    return tokens


def write(checkpoint: Checkpoint, path: Path) -> list[str]:
    """Write a directory that transformers' `from_pretrained` reads; return notices for the user."""
    e, heads, head, notices = checkpoint.encoder, checkpoint.heads(), checkpoint.head, []
    if head is not None and len({name.split("/")[0] for name in heads}) > 1:
        notices.append(
            f"masked LM and next sentence heads omitted: no transformers class combines them with a {OUTPUTS[head.kind]}"
        )
        heads = {name: array for name, array in heads.items() if name.startswith(head.kind + "/")}
    kind = CLASSES[frozenset(name.split("/")[0] for name in heads)]
    if not checkpoint.has_pooler and kind not in WITHOUT_POOLER:
        notices.append(f"the checkpoint has no pooler; transformers' {kind} will initialise its own at random")
    if checkpoint.has_pooler and kind in WITHOUT_POOLER:
        notices.append(f"transformers' {kind} does not use the pooler, which is written anyway")
    arrays = {**checkpoint.arrays(), **heads}
    prefix = PREFIX.get(kind, "bert.")
    tensors = {}
    for row in names.rows(e, {head.kind: head.size} if head else {}):
        if row.path in arrays:
            name = row.names["hugging_face"]
            name = name if row.of_head else prefix + name
            tensors[name] = row.written(arrays[row.path], "hugging_face")
    config = {
        **written_sizes(e),
        "architectures": [kind],
        "hidden_act": WRITTEN_ACTIVATIONS[e.activation],
        "layer_norm_eps": 1e-12,
        "model_type": "bert",
        "pad_token_id": text.numbered(checkpoint.vocabulary)[text.PAD],
        "position_embedding_type": "absolute",
        "torch_dtype": "float32",
    }
    if head is not None:
        config |= {"id2label": {str(i): label for i, label in enumerate(head.names)}}
        config |= {"label2id": {label: i for i, label in enumerate(head.names)}}
        problem = head.options.get("problem_type")
        config |= {"problem_type": problem} if problem else {}
    write_json(path / "config.json", config)
    write_text(path / "vocab.txt", "".join(token + "\n" for token in base_vocabulary(checkpoint)))
    write_tokenizer_config(checkpoint, path)
    try:
        save_file(tensors, path / "model.safetensors", metadata={"format": "pt"})
    except SafetensorError as error:
        raise OSError(str(error)) from None
    # safetensors creates files readable by their owner only.
    (path / "model.safetensors").chmod((path / "vocab.txt").stat().st_mode & 0o777)
    return notices
