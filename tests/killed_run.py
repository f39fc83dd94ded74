"""A training run that is killed again and again: `killed_run.py DATA MODEL_DIR KILLS SEED`.

Each attempt is a process of its own that trains from the last checkpoint and is sent SIGKILL at a random moment, until
there were KILLS of them; the last attempt runs to the end. Attempts are forked after the imports, which cost seconds,
and before TensorFlow's first operation, which starts its threads.
"""

import json
import os
import random
import signal
import sys
import time
import traceback

from kbert import runtime

runtime.start()

from tiny import CONFIG, VOCABULARY  # noqa: E402

from kbert import pipeline, serving, strategies, tasks, training  # noqa: E402, F401  (imported once for all attempts)
from kbert.config import EncoderConfig, ModelConfig, SourceConfig, TextConfig, TrainConfig  # noqa: E402
from kbert.model_dir import ModelDir  # noqa: E402
from kbert.sources import open_table  # noqa: E402

STEPS = 30
MODEL = ModelConfig(
    task="classify",
    fields=("text",),
    labels=("negative", "positive"),
    options={},
    encoder=EncoderConfig(
        vocabulary_size=len(VOCABULARY),
        num_layers=1,
        num_heads=2,
        hidden_dim=CONFIG["hidden_size"],
        intermediate_dim=CONFIG["intermediate_size"],
        max_sequence_length=CONFIG["max_position_embeddings"],
    ),
    text=TextConfig(lowercase=True, strip_accents=True),
    max_length=20,
)


def train(data: str, model_dir: str) -> None:
    """Train to the end, three epochs, with a checkpoint every other step; dev is measured at the ends of epochs."""
    config = TrainConfig(
        init="", train_data=data, batch_size=20, steps=STEPS, learning_rate=0.01, checkpoint_steps=2, keep_checkpoints=2, seed=3
    )
    training.seed(config.seed)
    table = open_table(data, SourceConfig(), ("text", "label"), keyed_by=1)
    task, _, model = serving.build(MODEL, VOCABULARY, "float32")
    directory = ModelDir(model_dir)
    directory.check_writable()
    if directory.last() is None:
        directory.create(MODEL, config, VOCABULARY)
    batches = pipeline.TableBatches(pipeline.Examples(task, table), batch_size=config.batch_size, seed=config.seed)
    measure = training.dev_measure(task, model, VOCABULARY, table, config.precision)
    training.Run(task, model, config, directory, batches, measure).fit()


def attempt(data: str, model_dir: str) -> int:
    """Start `train` in a process of its own; returns its id."""
    child = os.fork()
    if child == 0:
        try:
            train(data, model_dir)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return child


def reached(model_dir: str) -> int:
    last = ModelDir(model_dir).last()
    return 0 if last is None else last.step


def main(data: str, model_dir: str, kills: str, seed: str) -> None:
    chance = random.Random(int(seed))
    # Each attempt gets a little further than the last: to any step, and any moment of it.
    goals = sorted(chance.sample(range(1, STEPS - 1), int(kills)))
    steps = []
    for goal in goals:
        child = attempt(data, model_dir)
        while reached(model_dir) < goal:
            assert os.waitpid(child, os.WNOHANG) == (0, 0), "an attempt ended by itself"
            time.sleep(0.002)
        time.sleep(chance.uniform(0, 0.03))
        os.kill(child, signal.SIGKILL)
        assert os.waitpid(child, 0)[1] == signal.SIGKILL
        steps.append(reached(model_dir))
    child = attempt(data, model_dir)
    assert os.waitpid(child, 0)[1] == 0
    print(json.dumps(steps))


if __name__ == "__main__":
    main(*sys.argv[1:])
