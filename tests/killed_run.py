"""A run that is killed again and again: `main(COMMAND, FOLDER, WHOLE, MODEL_DIR, KILLS, SEED)`; and one that is not, in WHOLE.

Each attempt is a process of its own that runs `kbert.pretrain` or `kbert.finetune`, as COMMAND has it, on what lies in
FOLDER, and is sent SIGKILL at a random moment, until there were KILLS of them; the last attempt runs to the end. Attempts are forked after the imports, which
cost seconds, and before TensorFlow's first operation, which starts its threads. Prints, as JSON, the step of the last
checkpoint after each kill.
"""

import json
import os
import random
import signal
import time
import traceback
from pathlib import Path

from conftest import finetune_flags
from test_pretrain import arguments

from kbert import finetune, graphs, pretrain
from kbert.model_dir import ModelDir

STEPS = {"pretrain": 90, "finetune": 60}
graphs.WORTH_COMPILING = 1  # so that what XLA compiles for large models resumes exactly too


def trained(command: str, folder: Path, model_dir: str) -> int:
    """Run the command; returns its exit code."""
    settings = {"steps": STEPS[command], "checkpoint_steps": 3, "keep_checkpoints": 2}
    if command == "pretrain":
        return pretrain.main(arguments(folder, model_dir, **settings, objective="mlm"))
    # A frozen layer's states are computed again by each attempt.
    return finetune.main(finetune_flags(folder / "checkpoint", folder, model_dir, freeze_layers=1, **settings))


def attempt(command: str, folder: str, model_dir: str) -> int:
    """Train in a process of its own; returns its id."""
    child = os.fork()
    if child == 0:
        try:
            os._exit(trained(command, Path(folder), model_dir))
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    return child


def written(model_dir: str) -> int:
    """The last checkpoint's step by its name: what is asked all the time should cost the run nothing."""
    return max((int(path.name.removeprefix("step-")) for path in Path(model_dir, "checkpoints").glob("step-*")), default=0)


def reached(model_dir: str) -> int:
    last = ModelDir(model_dir).last()
    return 0 if last is None else last.step


def main(command: str, folder: str, whole: str, model_dir: str, kills: str, seed: str) -> None:
    assert os.waitpid(attempt(command, folder, whole), 0)[1] == 0
    chance = random.Random(int(seed))
    steps = []
    # Each attempt gets a little further than the one before: to any step, and any moment of it.
    for goal in sorted(chance.sample(range(STEPS[command] - 20), int(kills))):
        child = attempt(command, folder, model_dir)
        while written(model_dir) < goal:
            assert os.waitpid(child, os.WNOHANG) == (0, 0), "an attempt ended by itself"
            time.sleep(0.005)
        time.sleep(chance.uniform(0, 0.02))
        os.kill(child, signal.SIGKILL)
        assert os.waitpid(child, 0)[1] == signal.SIGKILL
        steps.append(reached(model_dir))
    assert os.waitpid(attempt(command, folder, model_dir), 0)[1] == 0
    print(json.dumps(steps))

