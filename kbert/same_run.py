"""Check that a command resumes the run in a model directory: the same model, settings and vocabulary. No TensorFlow here."""

import dataclasses
import itertools
from typing import Any

from kbert.config import ModelConfig, RunConfig
from kbert.errors import UsageError
from kbert.model_dir import ModelDir
from kbert.tasks import RECORDED

# What may differ when the same command resumes a run; everything else must be equal.
MAY_CHANGE = {
    "strategy",
    "accumulation_steps",
    "epochs",
    "steps",
    "early_stopping_patience",
    "test_data",
    "cache_frozen",
    "cache_memory",
    "cache_dir",
    "checkpoint_steps",
    "keep_checkpoints",
    "evaluate_steps",
    "loss_limit",
    "skip_bad_rows",
}


def check_same(directory: ModelDir, model: ModelConfig, train: RunConfig, vocabulary: list[str]) -> None:
    """Raise UsageError, naming the difference, unless the recorded run has the same settings."""
    was_model, was_train = directory.read_config()
    last = directory.last()
    ways_out = "use --overwrite to start over, or another --model_dir"
    if last is not None and last.adopted:
        raise UsageError(
            f"--model_dir={directory.path} holds a model that kbert adopt made; --init={directory.path} with another "
            "--model_dir trains from it"
        )
    if was_model.task != model.task:
        raise UsageError(f"--model_dir={directory.path} holds a model of --task={was_model.task}, not {model.task}; {ways_out}")
    kind = RECORDED[model.task]
    since = {f.name: f.default for f in dataclasses.fields(kind)}  # values of options that did not exist then
    missing = since.keys() - was_model.options.keys()
    was_model = dataclasses.replace(was_model, options={**since, **was_model.options})
    for name, was, now in [*_differences(was_train, train), *_differences(was_model, model)]:
        if name == "tokens" and name in missing:
            raise UsageError(
                f"--model_dir={directory.path} has a run of an older kbert, trained and evaluated on words, though rows have "
                "tokens; kbert now trains and evaluates on the tokens, so the figures are not comparable. "
                f"--init={directory.path} with another --model_dir continues from its weights; --overwrite begins a new run"
            )
        unknown = was is None and name == "dev_data_crc32"  # a run from before it was recorded
        if name not in MAY_CHANGE and not unknown:
            raise UsageError(f"--model_dir={directory.path} has a run with {name} {_short(was)}, not {_short(now)}; {ways_out}")
    if last is not None:
        directory.read_model(last)
    before = directory.vocabulary()
    for line, (token, other) in enumerate(itertools.zip_longest(before, vocabulary), 1):
        if token != other:
            was, now = ("missing" if each is None else repr(each) for each in (token, other))
            found = f"line {line} was {was}, not {now}"
            raise UsageError(f"--model_dir={directory.path} has a run with another vocabulary: {found}; {ways_out}")


def _differences(was: Any, now: Any) -> list[tuple[str, Any, Any]]:
    found = []
    for spec in dataclasses.fields(was):
        a, b = getattr(was, spec.name), getattr(now, spec.name)
        if dataclasses.is_dataclass(a):
            found += _differences(a, b)
        elif isinstance(a, dict) and isinstance(b, dict):
            found += [(str(key), a.get(key), b.get(key)) for key in sorted({*a, *b}) if a.get(key) != b.get(key)]
        elif a != b:
            found.append((spec.name, a, b))
    return found


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 80 else text[:80] + "…"
