"""Pre-train BERT on plain text: `python -m kbert.pretrain --train_data=TEXT --vocab=vocab.txt --size=mini --model_dir=DIR`."""

import dataclasses
import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from kbert import cluster, flags, runtime
from kbert.config import EncoderConfig, ModelConfig, ModelFlags, PretrainConfig, RunFlags, TextConfig, flag
from kbert.errors import UsageError
from kbert.model_dir import ModelDir
from kbert.tasks.pretrain.options import PretrainOptions

if TYPE_CHECKING:
    import keras
    import numpy as np

    from kbert.checkpoints import Checkpoint
    from kbert.model.encoder import Encoder
    from kbert.pretraining.examples import Examples
    from kbert.tasks.pretrain.task import Pretrain
    from kbert.tasks.reports import Report
    from kbert.train.strategies import Devices

log = logging.getLogger("kbert.pretrain")  # __name__ is "__main__" when it runs

MEASURED_ROWS = 64  # held-out examples that go through the model at once

ABOUT = """
Pre-train BERT on plain text, from scratch (--vocab with --size or the sizes themselves) or from a checkpoint (--init).
Masks are drawn anew each epoch. The model directory is a checkpoint that --init of the other commands reads, and
kbert.predict fills [MASK] with it. Interrupted, the same command continues from the last checkpoint.
"""

# (layers, width) as google-research/bert published them; heads of 64, feed-forward layers four times as wide.
SIZES = {"tiny": (2, 128), "mini": (4, 256), "small": (4, 512), "medium": (8, 512), "base": (12, 768), "large": (24, 1024)}
POSITIONS = 512  # at least, so that a first phase on short examples can be followed by one on long ones


@dataclass(frozen=True, kw_only=True)
class StartFlags:
    """What a model from scratch is."""

    vocab: str | None = flag(None, help="From scratch: the vocabulary, a token a line (tools/make_vocab.py makes one).")
    lowercase: bool = flag(False, help="From scratch: lowercase the text and strip its accents.")
    size: Literal["tiny", "mini", "small", "medium", "base", "large"] | None = flag(
        None,
        help="From scratch: a size that Google published, "
        + ", ".join(f"{name} ({layers} layers, {width} wide)" for name, (layers, width) in SIZES.items())
        + "; the following flags override its parts.",
    )
    num_layers: int | None = flag(None, help="From scratch: encoder layers.", low=1)
    hidden_dim: int | None = flag(None, help="From scratch: width.", low=1)
    num_heads: int | None = flag(None, help="From scratch: attention heads; by default the width / 64.", low=1)
    intermediate_dim: int | None = flag(None, help="From scratch: width of feed-forward layers; by default 4 widths.", low=1)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns its exit code."""
    groups = lambda _: (RunFlags, StartFlags, PretrainConfig, ModelFlags, PretrainOptions)  # noqa: E731
    return flags.main("python -m kbert.pretrain", ABOUT, argv, groups, run)


def run(
    run_flags: RunFlags, start: StartFlags, train: PretrainConfig, model_flags: ModelFlags, options: PretrainOptions
) -> int:
    """Train, or continue, or say that there is nothing to do; returns the exit code."""
    if (train.init is None) == (start.vocab is None):
        raise UsageError("give one of --init, to continue from a checkpoint, and --vocab, to begin from scratch")
    given = [f"--{f.name}" for f in dataclasses.fields(start) if f.name != "vocab" and getattr(start, f.name)]
    if train.init is not None and given:
        raise UsageError(f"{given[0]}: --init={train.init} says what the model is")
    if train.dev_data and train.dev_fraction:
        raise UsageError("--dev_data and --dev_fraction exclude each other")
    directory = ModelDir(run_flags.model_dir)
    directory.check_writable(run_flags.overwrite)
    if train.init is not None:
        directory.check_not_in(train.init)

    cluster.check(train.strategy, train.batch_size)
    with directory.held(cluster.is_chief(train.strategy)):
        runtime.start()
        from kbert.train import strategies

        with strategies.devices(train.strategy, train.batch_size, train.accumulation_steps) as devices:
            _train(run_flags, start, train, model_flags, options, directory, devices)
    return 0


def _train(
    run_flags: RunFlags,
    start: StartFlags,
    train: PretrainConfig,
    model_flags: ModelFlags,
    options: PretrainOptions,
    directory: ModelDir,
    devices: "Devices",
) -> None:
    """What `run` does, in each of the processes that do it together."""
    from kbert import checkpoints, graphs, permutation
    from kbert.data.tokenizer import read_vocabulary
    from kbert.model.encoder import frozen_table
    from kbert.pretraining.batches import PretrainingBatches
    from kbert.pretraining.measure import unigram
    from kbert.pretraining.sources import learnt_and_held_out
    from kbert.serving import build_model
    from kbert.tasks.pretrain.task import Pretrain
    from kbert.train import run as training

    if devices.chief and not run_flags.overwrite:
        directory.set_damaged_aside()
    devices.wait()
    train = dataclasses.replace(train, data_order=directory.data_order(run_flags.overwrite))
    checkpoint = None if train.init is None else checkpoints.open_checkpoint(train.init)
    if checkpoint is None:
        assert start.vocab is not None
        vocabulary = read_vocabulary(Path(start.vocab).expanduser())
        shape, casing = (
            _shape(start, len(vocabulary), model_flags.max_length),
            TextConfig(lowercase=start.lowercase, strip_accents=start.lowercase),
        )
    else:
        log.info("%s", checkpoints.describe(checkpoint))
        vocabulary, shape, casing = checkpoint.vocabulary, checkpoint.encoder, checkpoint.text
    _check(shape, train, model_flags, options)
    model_config = ModelConfig(
        task="pretrain",
        fields=("text",),
        labels=(),
        options=dataclasses.asdict(options),
        encoder=shape,
        text=casing,
        max_length=model_flags.max_length,
    )
    training.seed(train.seed)
    with devices.strategy.scope():
        task, encoder, model = build_model(Pretrain, model_config, vocabulary, train.precision, train.dropout)
    examples, held_out = learnt_and_held_out(train, options, model_config, task.tokenizer)
    most = train.predictions(model_flags.max_length)
    train = dataclasses.replace(train, train_data_crc32=examples.digest, dev_data_crc32=held_out.digest, max_predictions=most)
    if not run_flags.overwrite and directory.exists():
        directory.check_same(model_config, train, vocabulary)
        finished = directory.finished(train)
        if finished is not None:
            if devices.chief and directory.metrics().get("step") != directory.best().step:
                _write_metrics(directory, task)
            print(finished)
            return
    unigram_nll = unigram(examples.frequencies())
    _begin(checkpoint, encoder, model, unigram_nll, options)
    encoder.freeze_lower(train.freeze_layers, train.freeze_embeddings)
    with devices.strategy.scope():  # which says how many train
        encoder.compiled = graphs.worth_compiling(model.trainable_variables)
    devices.wait()  # for the others to have looked at what is there
    if devices.chief:
        directory.begin(model_config, train, vocabulary, run_flags.overwrite)
    devices.wait()
    print(frozen_table(model, encoder), flush=True)
    log.info("%d examples an epoch, %d held out", len(examples), len(held_out))
    batches = PretrainingBatches(
        examples,
        pairs=options.pairs,
        batch_size=train.batch_size,
        seed=permutation.seed_of(train.seed, train.data_order),
        max_length=model_flags.max_length,
        predictions=examples.most if train.strategy == "tpu" else None,
    )
    measure = _measure(task, model, vocabulary, unigram_nll, held_out, train)
    training.Run(task, model, train, directory, batches, measure, devices).fit()
    if devices.chief:
        _write_metrics(directory, task)
    print(f"\nmodel: {directory.path}")


def _write_metrics(directory: ModelDir, task: "Pretrain") -> None:
    """Write and print the kept checkpoint's figures on held-out text."""
    best = directory.best()
    directory.write_metrics({"step": best.step, "epoch": best.epoch, "dev": best.metrics})
    print(f"\nheld out, {best.place}, the best there:\n{task.report(best.metrics).table()}")


def _shape(start: StartFlags, vocabulary_size: int, max_length: int) -> EncoderConfig:
    """The encoder's shape from the flags."""
    layers, width = SIZES.get(start.size or "", (None, None))
    layers, width = start.num_layers or layers, start.hidden_dim or width
    if layers is None or width is None:
        raise UsageError("--vocab begins from scratch: give --size, or --num_layers and --hidden_dim")
    heads = start.num_heads or max(1, width // 64)
    if width % heads:
        raise UsageError(f"--num_heads={heads} does not divide the width, {width}")
    return EncoderConfig(
        vocabulary_size=vocabulary_size,
        num_layers=layers,
        num_heads=heads,
        hidden_dim=width,
        intermediate_dim=start.intermediate_dim or 4 * width,
        max_sequence_length=max(POSITIONS, max_length),
        activation="gelu",
    )


def _check(shape: EncoderConfig, train: PretrainConfig, model_flags: ModelFlags, options: PretrainOptions) -> None:
    """Raise UsageError where the flags ask for what the model cannot do."""
    if train.freeze_layers > shape.num_layers:
        raise UsageError(f"--freeze_layers={train.freeze_layers}: the model has {shape.num_layers} layers")
    if model_flags.max_length > shape.max_sequence_length:
        raise UsageError(
            f"--max_length={model_flags.max_length}: the checkpoint has positions for {shape.max_sequence_length} tokens"
        )
    if options.pairs and shape.num_segments < 2:
        raise UsageError(f"--objective={options.objective}: the checkpoint knows {shape.num_segments} segment, pairs need 2")
    if options.pairs and model_flags.max_length < 5:
        raise UsageError(f"--max_length={model_flags.max_length}: a pair needs 5 tokens or more")
    if options.pairs is None and train.short_seq_prob != PretrainConfig.short_seq_prob:
        raise UsageError(f"--short_seq_prob={train.short_seq_prob} is for pairs, which --objective=mlm has none of")
    if train.segmenter and train.mask_unit == "piece":
        raise UsageError(f"--segmenter={train.segmenter} says what words are; it needs --mask_unit=word or span")


def _begin(
    checkpoint: "Checkpoint | None",
    encoder: "Encoder",
    model: "keras.Model",
    unigram_nll: "np.ndarray",
    options: PretrainOptions,
) -> None:
    """The weights that a run begins with: the checkpoint's where there is one, the heads' too where it has them."""
    import numpy as np

    from kbert.checkpoints.names import HEADS

    # Else hundreds of steps go by until the head knows how frequent each piece is, and the layers learn nothing from them.
    unused = encoder.config.vocabulary_size - len(unigram_nll)  # rows of the embedding table: as rare as a piece can be
    model.get_layer("mlm_head").output_bias.assign(-np.pad(unigram_nll, (0, unused), constant_values=unigram_nll.max()))
    if checkpoint is None:
        if options.pairs is None:
            encoder.backbone.pooled_dense.kernel.assign(0.0 * encoder.backbone.pooled_dense.kernel)  # a pooler that is none
        return
    if checkpoint.head is not None:
        log.warning("the checkpoint's %s is set aside: it answers another task", checkpoint.head)
    init = checkpoint.format
    if not encoder.load(checkpoint.arrays(), init):
        log.warning("the checkpoint has no pooler, which pairs are learnt with: it starts at random values")
    variables = {weight.path: weight for weight in model.weights}
    arrays = checkpoint.heads()
    for part, name in HEADS.items():
        ours = [path for path in variables if path.startswith(f"{part}/")]
        if not all(path in arrays for path in ours):
            log.warning("the checkpoint has no head for %s: its weights start at random values", name)
            continue
        for path in ours:
            variables[path].assign(arrays[path])


def _measure(
    task: "Pretrain",
    model: "keras.Model",
    vocabulary: list[str],
    unigram_nll: "np.ndarray",
    held_out: "Examples",
    train: PretrainConfig,
) -> Callable[[], "Report"]:
    """A function that measures the model as it is now, in the arithmetic that is served."""
    from kbert import permutation
    from kbert.pretraining.batches import PretrainingBatches
    from kbert.pretraining.measure import measurer
    from kbert.serving import build_model, set_weights
    from kbert.tasks.pretrain.task import Pretrain

    options = PretrainOptions(**task.config.options)
    # Measured on one device and in one part, however large the batches of training are.
    length = task.config.max_length
    seed = permutation.seed_of(train.seed, train.data_order)
    batches = PretrainingBatches(held_out, pairs=options.pairs, batch_size=MEASURED_ROWS, seed=seed, max_length=length)
    count = min(batches.per_epoch, -(-train.dev_examples // MEASURED_ROWS))
    served = model
    if train.precision != task.config.serving_precision:
        _, _, served = build_model(Pretrain, task.config, vocabulary, task.config.serving_precision)
    figures = measurer(served, batches, count, unigram_nll)

    def measure() -> "Report":
        if served is not model:
            set_weights(served, {weight.path: weight.numpy() for weight in model.weights}, "serving model")
        return task.report(figures())

    return measure


if __name__ == "__main__":
    sys.exit(main())
