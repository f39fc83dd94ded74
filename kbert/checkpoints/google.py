"""Read and write Google's TF1 checkpoints (google-research/bert): bert_config.json, vocab.txt, bert_model.ckpt.*.

In: a directory as distributed for BERT, bert-base-chinese or Chinese-BERT-wwm, or as written by run_classifier.py or
run_squad.py, where the file `checkpoint` names one of several. Out: a `Checkpoint`; and the reverse.
"""

import logging
from pathlib import Path

from kbert import runtime
from kbert.checkpoints import added_tokens, foreign, names
from kbert.checkpoints.casing import read_casing, stated_tokens
from kbert.checkpoints.checkpoint import Checkpoint, bert_config, read_vocabulary, vocabulary_file, written_sizes
from kbert.checkpoints.head import Head
from kbert.checkpoints.located import locate
from kbert.checkpoints.names import HEADS
from kbert.checkpoints.tensor_files import tensorflow_list, tensorflow_read
from kbert.checkpoints.tensor_matching import Weights, match, sizes
from kbert.checkpoints.tokenizer_config import OTHERS, base_vocabulary, write_tokenizer_config
from kbert.config import TextConfig
from kbert.errors import DataError
from kbert.files import read_json, write_json, write_text

log = logging.getLogger(__name__)

# Google's gelu is the tanh approximation.
ACTIVATIONS = {"gelu": "gelu_approximate", "relu": "relu"}
READS = {"classifier": {"pooling": "pooler"}}
WRITTEN = ("classifier", "span")  # heads that the form can store


def configuration(path: Path) -> Path | None:
    """Return a directory's bert_config.json, or its only file of a similar name, such as bert_config_large.json."""
    usual, others = path / "bert_config.json", list(path.glob("bert_config*.json"))
    if usual.exists():
        return usual
    return others[0] if len(others) == 1 else None


def prefixes(path: Path) -> list[str]:
    """Return the names of a directory's TensorFlow checkpoints, each `NAME.index` and `NAME.data-...`."""
    return sorted({file.name.rpartition(".")[0] for pattern in ("*.index", "*.data-*-of-*") for file in path.glob(pattern)})


def read(path: Path, where: Path, name: str | None = None) -> Checkpoint:
    """Read a directory with a bert_config.json.

    Args:
        where: the configuration's file.
        name: the checkpoint of the directory to read; by default its only one, or the one that its file `checkpoint` names.

    Raises:
        DataError: a file is missing, damaged, or does not match the others.
    """
    prefix = path / (name or _chosen(path))
    config = read_json(where)
    foreign.check_config(config, where)
    encoder = bert_config(config, where, ACTIVATIONS)
    added = added_tokens.listed(path)
    vocabulary = read_vocabulary(vocabulary_file(path, config), encoder, stated=stated_tokens(path), added=added)
    vocabulary, casing = added_tokens.placed(added, path, vocabulary, _casing(path, vocabulary), encoder.vocabulary_size)
    found = locate(tensorflow_list(prefix), encoder, "google", prefix)
    outputs = sizes(found.beside, WRITTEN, "google")
    table = list(names.rows(encoder, outputs))
    kept = {row.names["google"] for row in table if row.of_head} & set(found.beside)
    tensors = found.encoder | {name: found.beside[name] for name in kept}
    weights = Weights("google", match(tensors, table, "google", prefix, ("pooled_dense", *HEADS)), tensorflow_read)
    ignored = sorted(found.beside[name].name for name in found.beside.keys() - kept)
    return Checkpoint(
        format="Google TF1",
        encoder=encoder,
        text=casing,
        vocabulary=vocabulary,
        arrays=weights.encoder,
        heads=weights.heads,
        shapes=weights.shapes,
        ignored=tuple(ignored),
        aside=tuple(sorted(tensor.name for tensor in found.aside)),
        source=weights.source(prefix),
        head=next((Head(kind, size, options=READS.get(kind, {})) for kind, size in outputs.items()), None),
    )


def _chosen(path: Path) -> str:
    """Return the name of the checkpoint to read of those in a directory."""
    runtime.start()
    import tensorflow as tf

    found = prefixes(path)
    state = tf.train.get_checkpoint_state(str(path)) if (path / "checkpoint").exists() else None
    named = Path(state.model_checkpoint_path).name if state is not None else None
    if named in found:
        if len(found) > 1:
            log.info("%s: reads %s, which the file `checkpoint` names, of %s", path, named, ", ".join(found))
        return str(named)
    if len(found) != 1:
        beside = f": {', '.join(found)}; give one, as --init={path / found[-1]}" if found else ""
        raise DataError(f"{path}: expected one *.ckpt.index file beside bert_config.json, found {len(found)}{beside}")
    if named is not None:
        log.warning("%s: reads %s, its only checkpoint, though the file `checkpoint` names %s", path, found[0], named)
    return found[0]


def _casing(path: Path, vocabulary: list[str]) -> TextConfig:
    """Determine the casing from tokenizer_config.json if present, else from the vocabulary.

    Google's releases do not state the casing. As their users do, infer it from the vocabulary: uncased ones
    have no capitals except in special tokens such as [CLS] or bert-base-chinese's <S>.
    """
    if (path / "tokenizer_config.json").exists():
        return read_casing(path, {})
    words = (token for token in vocabulary if not (token[:1] in "[<" and token[-1:] in "]>"))
    lowercase = not any("A" <= character <= "Z" for word in words for character in word)
    return TextConfig(lowercase=lowercase, strip_accents=lowercase)


def write(checkpoint: Checkpoint, path: Path) -> list[str]:
    """Write a directory that google-research/bert reads, with GELU as its tanh approximation.

    Returns:
        Notices for the user.
    """
    import tensorflow as tf

    e, head, notices = checkpoint.encoder, checkpoint.head, []
    if checkpoint.labels:
        notices.append(f"Google's format cannot store label names; their order is {', '.join(checkpoint.labels)}")
    if checkpoint.text.added_tokens:
        notices.append(OTHERS)
    arrays = {**checkpoint.arrays(), **checkpoint.heads()}
    table = [row for row in names.rows(e, {head.kind: head.size} if head else {}) if row.path in arrays]
    config = {**written_sizes(e), "hidden_act": "relu" if e.activation == "relu" else "gelu"}
    write_json(path / "bert_config.json", config)
    write_text(path / "vocab.txt", "".join(token + "\n" for token in base_vocabulary(checkpoint)))
    write_tokenizer_config(checkpoint, path)
    try:
        tf.raw_ops.SaveV2(
            prefix=str(path / "bert_model.ckpt"),
            tensor_names=[row.names["google"] for row in table],
            shape_and_slices=[""] * len(table),
            tensors=[tf.constant(row.written(arrays[row.path], "google")) for row in table],
        )
    except tf.errors.OpError as error:
        raise OSError(error.message) from None
    return notices
