"""Write vectors from any BERT: `python -m kbert.encode --init=DIR --input=texts.txt --output=vectors.npy`."""

import dataclasses
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kbert import flags, runtime
from kbert.callable_module import make_callable
from kbert.errors import UsageError
from kbert.settings import to_json
from kbert.source import SourceConfig
from kbert.vectors.flags import EncodeFlags, SentenceFlags, TokenFlags, check
from kbert.vectors.formats import VectorFormat, format_of

if TYPE_CHECKING:
    from kbert.checkpoints import Checkpoint
    from kbert.checkpoints.sentence_transformers import SentenceSettings
    from kbert.data.table import Table
    from kbert.vectors.run import Output
    from kbert.vectors.sentences import VectorConfig

log = logging.getLogger("kbert.encode")  # __name__ is "__main__" when it runs

ABOUT = """
Write vectors of texts, of their characters, pieces or words, or of every distinct character or word in
them, from any checkpoint, trained here or not. Interrupted, the same command continues where it was.
"""

GROUPS = (EncodeFlags, SentenceFlags, TokenFlags, SourceConfig)


def main(argv: Sequence[str] | None = None, program: str = "python -m kbert.encode") -> int:
    """Run the command line `argv` of `program`; return its exit code."""
    return flags.main(program, ABOUT, argv, lambda _: GROUPS, run)


def run(options: EncodeFlags, sentence: SentenceFlags, token: TokenFlags, source: SourceConfig) -> int:
    """Write vectors, or a SavedModel, or both; return the exit code."""
    check(options, sentence, token)
    flags.check_columns(source.text_columns, ("text",))
    source.check_all_read()
    form = None
    if options.output is not None:
        form = format_of(options.output, options.output_format, options.unit != "token")

    from kbert import checkpoints
    from kbert.data.indexing import open_table
    from kbert.data.sources import are_small

    def read() -> "Table | None":
        return None if options.input is None else open_table(options.input, source, source.text_columns, keyed_by=1)

    checkpoint = checkpoints.open_checkpoint(options.init)
    log.info("%s", checkpoints.describe(checkpoint))
    small = are_small(options.input)
    table = read() if small else None
    runtime.start()
    config, checkpoint = vector_config(options, sentence, token, checkpoint)
    if not small:
        table = read()
    if options.unit == "sentence":
        _sentences(options, sentence, config, checkpoint, table, form)
        return 0
    if table is not None and form is not None:
        _tokens(options, token, config, checkpoint, table, form)
    if options.export_dir is not None:
        _export_tokens(options, config, checkpoint)
    return 0


def vector_config(
    options: EncodeFlags, sentence: SentenceFlags, token: TokenFlags, checkpoint: "Checkpoint"
) -> "tuple[VectorConfig, Checkpoint]":
    """Resolve the settings of vectors from the flags and, where they are not set, from the checkpoint.

    Returns:
        The settings, and the checkpoint, whose arrays include those of dense layers over the vectors, where they are used.
    """
    from kbert.vectors.sentences import VectorConfig, layer_numbers

    encoder, own = checkpoint.encoder, None
    if options.unit == "sentence" and sentence.pooling is None:
        own = _own_settings(options.init, checkpoint)
    longest = encoder.max_sequence_length
    if options.max_length is not None and options.max_length > longest:
        raise UsageError(f"--max_length={options.max_length}: the checkpoint has positions for {longest} tokens")
    layers, pooling, layer_mode = (
        options.layers or ("-1",),
        own.pooling if own else (sentence.pooling or "mean",),
        options.layer_mode,
    )
    if sentence.pooling == "first_last_mean":
        # As in Su et al. 2021: the first layer's output, not the embeddings'.
        layers, pooling, layer_mode = ("1", "-1"), ("mean",), "mean"
        layers = layers if encoder.num_layers > 1 else ("-1",)
    special = sentence.special_tokens
    normalize = sentence.normalize
    config = VectorConfig(
        encoder=encoder,
        text=checkpoint.text,
        layers=layer_numbers(layers, encoder.num_layers),
        layer_mode=layer_mode,
        max_length=options.max_length or min(own.max_length or longest if own else longest, longest),
        precision=options.precision,
        stride=0,
        pooling=pooling if options.unit == "sentence" else (),
        special_tokens=own is not None if special is None else special,
        projections=own.projections if own else (),
        normalize=(own is not None and own.normalize) if normalize is None else normalize,
    )
    if own and own.projections:
        parts = checkpoint.arrays, own.layers
        checkpoint = dataclasses.replace(checkpoint, arrays=lambda: {**parts[0](), **parts[1]()})
    if options.unit != "sentence":
        room = config.max_length - 2
        config = dataclasses.replace(config, stride=min(32, room // 2) if token.stride is None else token.stride)
        if config.stride >= room:
            raise UsageError(
                f"--stride={config.stride}: windows of {config.max_length} tokens hold {room} and have to share fewer"
            )
    else:
        log.info(
            "%s over layers %s%s%s%s, texts of up to %d tokens%s",
            " and ".join(config.pooling),
            ", ".join(map(str, config.layers)),
            ", [CLS] and [SEP] counted" if config.special_tokens else "",
            "".join(f", {each}" for each in config.projections),
            ", scaled to length 1" if config.normalize else "",
            config.max_length,
            f", as {'config.json' if checkpoint.format == 'kbert' else 'modules.json'} says" if own else "",
        )
    return config, checkpoint


def _own_settings(init: str, checkpoint: "Checkpoint") -> "SentenceSettings | None":
    """Return the directory's own settings of vectors (sentence-transformers, or a model of two vectors), or None."""
    from kbert.checkpoints.sentence_transformers import SentenceSettings, read_sentence_settings
    from kbert.model_dir import ModelDir, directory_of
    from kbert.tasks import options_of

    path = Path(init).expanduser()
    directory = ModelDir(directory_of(path) or path)
    if not directory.exists():
        return read_sentence_settings(init, lowercase=checkpoint.text.lowercase)
    model = directory.read_config()[0]
    vector = options_of(model).text_vector()
    if vector is None:
        return None
    if vector.long_text != "head":
        log.warning(
            "--init=%s was trained with --long_text=%s; here of long texts the beginning is read",
            init,
            vector.long_text,
        )
    layers = checkpoint.heads if vector.projections else dict
    return SentenceSettings((vector.pooling,), vector.normalize, model.max_length, vector.projections, layers=layers)


def _sentences(
    options: EncodeFlags,
    sentence: SentenceFlags,
    config: "VectorConfig",
    checkpoint: "Checkpoint",
    table: "Table | None",
    form: "VectorFormat | None",
) -> None:
    from kbert import serving
    from kbert.vectors import encoding
    from kbert.vectors import run as vector_run
    from kbert.vectors.sentences import SentenceVectors
    from kbert.vectors.whitening import Whitening

    whitening = None
    size = config.encoder.hidden_dim * len(config.pooling) * (len(config.layers) if config.layer_mode == "concat" else 1)
    if config.projections:
        size = config.projections[-1].size
    if sentence.whitening_dim is not None and sentence.whitening_dim > size:
        raise UsageError(f"--whitening_dim={sentence.whitening_dim}: the vectors have {size} dimensions")
    if sentence.whitening is not None:
        whitening = Whitening.load(Path(sentence.whitening).expanduser(), size)
    served = None
    if table is not None and form is not None:
        fit = None
        pooled = config
        if sentence.fit_whitening is not None:
            fit = Path(sentence.fit_whitening).expanduser(), sentence.whitening_dim
            pooled = dataclasses.replace(config, normalize=False)
        predictor, weights_crc32 = vector_run.sentence_predictor(pooled, whitening, checkpoint, options.init)
        served = SentenceVectors(config, predictor.task.tokenizer, whitening)
        out = _output(options, sentence, weights_crc32, form)
        if whitening is not None:
            out.settings["whitening_crc32"] = vector_run.crc32(vars(whitening))
        notes, served = vector_run.write_sentences(predictor, table, out, served, fit)
        for said in encoding.say(notes, len(table), config.max_length):
            log.warning("%s", said)
    if options.export_dir is not None:
        served = served or SentenceVectors(config, vector_run.tokenizer_of(checkpoint), whitening)
        path = serving.export(vector_run.build(served, checkpoint.arrays(), options.init), options.export_dir)
        log.info("exported: %s", path)


def _tokens(
    options: EncodeFlags,
    token: TokenFlags,
    config: "VectorConfig",
    checkpoint: "Checkpoint",
    table: "Table",
    form: "VectorFormat",
) -> None:
    from kbert.data.segmenters import segmenter
    from kbert.vectors import encoding
    from kbert.vectors import run as vector_run
    from kbert.vectors.tokens import TokenVectors

    arrays, tokenizer = checkpoint.arrays(), vector_run.tokenizer_of(checkpoint)
    split = None if token.segmenter is None else segmenter(token.segmenter)
    out = _output(options, token, vector_run.crc32(arrays), form)
    predictor = None
    if options.unit == "token" or token.source == "contextual":
        predictor = vector_run.build(TokenVectors(config, tokenizer), arrays, options.init)
    if options.unit == "token":
        assert predictor is not None
        notes = vector_run.write_tokens(predictor, table, out, token.granularity or "piece", split)
        for said in encoding.say(notes, len(table), None):
            log.warning("%s", said)
        return
    found = vector_run.write_vocabulary(
        predictor,
        arrays[vector_run.EMBEDDINGS],
        tokenizer,
        table,
        out,
        token.granularity or "character",
        split,
        token.min_count or 1,
    )
    log.info("%s: %d vectors", options.output, len(found))
    if found.unknown:
        log.warning("%d of them are not known to the vocabulary and have the vector of [UNK]", found.unknown)


def _export_tokens(options: EncodeFlags, config: "VectorConfig", checkpoint: "Checkpoint") -> None:
    from kbert import serving
    from kbert.vectors import run as vector_run
    from kbert.vectors.tokens import TokenVectors

    assert options.export_dir is not None
    served = TokenVectors(config, vector_run.tokenizer_of(checkpoint), by_row=True)
    path = serving.export(vector_run.build(served, checkpoint.arrays(), options.init), options.export_dir)
    log.info("exported: %s", path)


def _output(options: EncodeFlags, group: Any, weights_crc32: int, form: "VectorFormat") -> "Output":
    from kbert.vectors import run as vector_run

    assert options.output is not None
    settings = {"unit": options.unit, "weights_crc32": weights_crc32, **to_json(group)}
    return vector_run.Output(options.output, form, options.overwrite, settings)


make_callable(__name__)  # `kbert.encode(...)` is `kbert.api.encode(...)`

if __name__ == "__main__":
    sys.exit(main())
