"""What every registered task has to do, on a tiny model that learns sixteen rows by heart; a new task adds its case."""

import dataclasses
import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2
from tiny import VOCABULARY

from kbert import graphs, serving
from kbert.config import EncoderConfig, ModelConfig, TextConfig, TrainConfig
from kbert.data.indexing import open_table
from kbert.errors import UsageError
from kbert.model.chunks import INPUTS, padded
from kbert.model.state_cache import StateCache
from kbert.model_dir import ModelDir
from kbert.saved import Figures
from kbert.serving import certificate
from kbert.settings import to_json
from kbert.source import SourceConfig
from kbert.tasks import RECORDED, task_class
from kbert.tasks.aspect.options import Aspect
from kbert.tasks.base import Built, Storable, Task
from kbert.train.batches import TableBatches, TableExamples
from kbert.train.objective import Objective
from kbert.train.optimizers import optimizer
from kbert.train.step import TrainStep

ROWS = 16
WORDS = ["good", "bad", "film", "fine", "dull", "very", "plot", "cafe"]
TEXTS = [f"{WORDS[i % 8]} {WORDS[(3 * i + i // 8) % 8]} the {WORDS[(5 * i) % 7]}" + " a film" * (i % 5) for i in range(ROWS)]
BITS = [str(int(text.startswith(("good", "film", "dull", "plot")))) for text in TEXTS]
ASPECTS = tuple(Aspect(name=name, coarse=name, readable=name) for name in ("film", "plot"))


@dataclasses.dataclass(frozen=True)
class Case:
    """A task with options, its rows, and how many segments its encoder knows."""

    task: str
    raw: dict[str, list[str]]  # fields, then what rows may come with
    gold: dict[str, list[str]]
    labels: tuple[str, ...] = ()
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    segments: int = 2


def entities(text: str) -> str:
    return json.dumps([{"start": 0, "end": text.index(" "), "type": "thing"}])


PAIR = {"title": WORDS * 2, "text": TEXTS}
CASES = {
    "classify": Case("classify", {"text": TEXTS}, {"label": BITS}, ("0", "1"), segments=1),
    "pair": Case("classify", {"text": TEXTS, "text_b": TEXTS[::-1]}, {"label": BITS}, ("0", "1"), {"pooling": "mean"}),
    "labels in windows": Case(
        "classify", {"text": [text + " a" * 7 for text in TEXTS]}, {"label": [("one", "one,two")[int(bit)] for bit in BITS]},
        ("one", "two"),
        {"objective": "multilabel", "long_text": "windows", "stride": 2, "window_pooling": "attention", "pooling": "mean"}, 1,
    ),
    "number": Case("classify", {"text": TEXTS}, {"label": BITS}, options={"objective": "regression"}, segments=1),
    "tag": Case("tag", {"text": TEXTS, "tokens": [""] * ROWS}, {"entities": [*map(entities, TEXTS)]}, ("thing",), {"stride": 4}, 1),
    "crf": Case(
        "tag", {"text": TEXTS, "tokens": [""] * ROWS}, {"entities": [*map(entities, TEXTS)]}, ("thing",),
        {"stride": 4, "decoder": "crf"}, 1,
    ),
    "answer": Case(
        "answer",
        {"question": WORDS * 2, "context": TEXTS},
        {"answers": [json.dumps({"text": [t.split()[0]], "answer_start": [0]}) for t in TEXTS]},
        options={"max_question_length": 4, "doc_stride": 4, "max_answer_length": 4},
    ),
    "cross": Case("match", PAIR, {"label": BITS}, ("0", "1"), {"max_title_length": 3, "stride": 2}),
    # Fields are not segments: two texts, each read alone.
    "dual": Case("match", PAIR, {"label": BITS}, ("0", "1"), {"scorer": "dual", "long_text": "mean", "stride": 2}, 1),
    "aspect": Case(
        "aspect",
        {"text": [text + "." for text in TEXTS]},
        {f"label_{i}": [("1", "-1")[int(bit) ^ i] for bit in BITS] for i in range(2)},
        ("positive", "negative"),
        {"aspects": ASPECTS, "filter": "head"},
    ),
    "pretrain": Case("pretrain", {"text": [f"{text} [MASK]" for text in TEXTS]}, {}, options={"objective": "mlm"}, segments=1),
}  # fmt: skip


class Made(NamedTuple):
    """A task with its model, raw rows as tensors, and a batch of all rows: inputs, targets and perhaps weights."""

    task: Storable
    encoder: Any
    built: Built
    raw: dict[str, tf.Tensor]
    batch: tuple[Any, ...]


def config_of(case: Case) -> ModelConfig:
    fields = tuple(name for name in case.raw if name != "tokens")
    return ModelConfig(
        task=case.task,
        fields=fields,
        labels=case.labels,
        options=to_json(dataclasses.replace(RECORDED[case.task](), **case.options)),
        encoder=EncoderConfig(
            vocabulary_size=len(VOCABULARY), num_layers=2, num_heads=2, hidden_dim=16, intermediate_dim=32,
            max_sequence_length=24, num_segments=case.segments, dropout=0.0,
        ),
        text=TextConfig(lowercase=True, strip_accents=True),
        max_length=20,
    )  # fmt: skip


def make(case: Case, precision: Any = "float32") -> Made:
    keras.utils.set_random_seed(1)
    task, encoder, built = serving.build_model(task_class(case.task), config_of(case), VOCABULARY, precision)
    raw = {name: tf.constant(values) for name, values in case.raw.items()}
    encoded = task.encode(raw)
    inputs = padded({name: encoded[name] for name in INPUTS}, task.tokenizer.pad_id)
    if case.task == "pretrain":
        masked = tf.argmax(tf.cast(inputs["token_ids"] == task.tokenizer.mask_id, tf.int32), 1, tf.int32)[:, None]
        words = tf.constant([[VOCABULARY.index(text.split()[0])] for text in TEXTS])
        return Made(
            task, encoder, built, raw, ({**inputs, "masked_positions": masked}, {"mlm": words}, {"mlm": tf.ones((ROWS, 1))})
        )
    columns = {name: tf.constant(values) for name, values in zip(task.gold, case.gold.values(), strict=True)}
    gold = task.supervise({**raw, **columns}, encoded)
    weights = task.weigh(columns, gold)
    if isinstance(gold, tf.RaggedTensor):
        gold = gold.to_tensor(-1)
        return Made(task, encoder, built, raw, (inputs, gold, tf.cast(gold >= 0, tf.float32)))
    return Made(task, encoder, built, raw, (inputs, gold) if weights is None else (inputs, gold, weights))


def ids_of(made: Made) -> dict[str, tf.Tensor]:
    """The encoder's inputs in the batch, which served models take."""
    return {name: values for name, values in made.batch[0].items() if name != "masked_positions"}


def train(made: Made, steps: int) -> list[float]:
    """The losses of so many steps on all rows."""
    config = TrainConfig(init="", train_data="", learning_rate=0.02, warmup_ratio=0.0, steps=steps)
    chosen = optimizer(made.built.model, config, 10 * steps)
    chosen.build(made.built.model.trainable_variables)
    step = TrainStep(made.built.model, chosen, Objective(made.built.loss, made.built.metrics))
    batches, sums, losses = iter(tf.data.Dataset.from_tensors(made.batch).repeat()), step.zeros(), []
    for _ in range(steps):
        sums, loss = step(batches, sums)
        losses.append(float(loss))
    return losses


def close(one: Any, other: Any) -> bool:
    """Whether JSON values are the same but for rounding."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(close(one[name], other[name]) for name in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(close, one, other))
    return abs(one - other) < 1e-3 if isinstance(one, float) else bool(one == other)


def answers(task: Storable, decoded: dict[str, Any]) -> list[dict[str, Any]]:
    arrays = {name: np.asarray(value) for name, value in decoded.items()}
    return [task.present(arrays, row) for row in range(len(next(iter(arrays.values()))))]


@pytest.mark.parametrize("name", sorted(Task.__abstractmethods__))
def test_a_task_that_lacks_a_method_cannot_be_made(name):
    lacking = type("Lacking", (task_class("classify"),), {name: inspect.getattr_static(Task, name)})
    with pytest.raises(TypeError, match=name):
        lacking(config_of(CASES["pair"]), None)


class OfThree(task_class("classify")):
    """Classify three texts, the second and third in one segment: fields are not segments."""

    def encode(self, raw):
        first, *others = (self.tokenizer.tokenize(raw[name]) for name in self.config.fields)
        return self.tokenizer.pack([first, tf.concat(others, 1)], self.config.max_length)


def test_a_task_may_have_three_fields(tmp_path):
    """From a file to batches, and from raw texts to answers."""
    fields = "one", "two", "three"
    config = dataclasses.replace(config_of(CASES["pair"]), fields=fields)
    task, _, built = serving.build_model(OfThree, config, VOCABULARY, "float32")
    rows = [f"{a}\t{b}\t{c}\t{bit}" for a, b, c, bit in zip(TEXTS, WORDS * 2, WORDS * 2, BITS, strict=True)]
    (tmp_path / "rows.tsv").write_text("\n".join(["one\ttwo\tthree\tlabel", *rows]) + "\n")
    columns = (*fields, "label")
    table = open_table(str(tmp_path / "rows.tsv"), SourceConfig(text_columns=fields), columns, keyed_by=3)
    batches = TableBatches(task, TableExamples(task, table), batch_size=4, seed=0)
    inputs, gold = next(iter(batches.dataset(0)))
    assert gold.shape == (4,) and inputs["token_ids"].shape[0] == 4
    predictor = serving.Predictor(task, built.served)
    raw = {name: tf.constant(values) for name, values in zip(fields, (TEXTS[:2], WORDS[:2], WORDS[:2]), strict=True)}
    first, other = (predictor({**raw, "three": tf.constant(last)})["probabilities"] for last in (WORDS[:2], WORDS[2:4]))
    assert first.shape == (2, 2) and not np.allclose(first, other)
    assert task.signatures()["serving_default"].fields == fields


@pytest.fixture(scope="module", params=CASES)
def case(request) -> Case:
    return CASES[request.param]


@pytest.fixture(scope="module")
def learnt(case) -> tuple[Made, list[float], dict[str, np.ndarray]]:
    """A model with its lowest layer frozen that has seen all rows again and again, its losses, and its weights before."""
    made = make(case)
    made.encoder.freeze_lower(1)
    before = {v.path: v.numpy() for v in made.built.model.weights}
    return made, train(made, 160), before


@pytest.fixture(scope="module")
def loaded(learnt, tmp_path_factory) -> serving.Predictor:
    """The model written to a model directory and read again."""
    made = learnt[0]
    directory = ModelDir(tmp_path_factory.mktemp("tasks") / "model")
    directory.path.mkdir()
    kind = RECORDED[made.task.config.task].TRAINED_BY
    run = kind(train_data="x", **({"init": "x"} if kind is TrainConfig else {}))
    directory.begin(made.task.config, run, VOCABULARY, False)
    weights = {v.path: np.array(v.numpy(), order="C") for v in made.built.model.weights}
    directory.save(weights, {}, Figures(step=1, per_epoch=1, score=1.0))
    return serving.load(directory.path)


def test_every_task_has_a_case():
    assert {case.task for case in CASES.values()} == set(RECORDED)


def test_rows_are_learnt_by_heart_and_what_is_frozen_stays(learnt):
    made, losses, before = learnt
    assert losses[-1] < 0.35 * losses[0] and np.isfinite(losses).all()
    moved = {
        path
        for path, array in before.items()
        if not any(v.path == path and (v.numpy() == array).all() for v in made.built.model.weights)
    }
    trainable = {v.path for v in made.built.model.trainable_variables}
    frozen = {
        v.path for layer in (*made.encoder.embedding_layers, made.encoder.backbone.transformer_layers[0]) for v in layer.weights
    }
    assert not moved & frozen and not trainable & frozen and moved <= trainable
    assert moved >= {path for path in trainable if path.endswith("kernel")}


def test_encoding_is_the_same_eagerly_and_in_a_graph(learnt):
    made = learnt[0]
    eager, graph = (
        tf.nest.flatten(f(made.raw), expand_composites=True) for f in (made.task.encode, graphs.function(made.task.encode))
    )
    assert len(eager) == len(graph) and all(np.array_equal(a, b) for a, b in zip(eager, graph, strict=True))


def test_padding_changes_nothing(learnt):
    made = learnt[0]
    inputs = made.batch[0]
    more = {n: v if n == "masked_positions" else tf.pad(v, [[0, 0], [0, 3]]) for n, v in inputs.items()}
    for one, other in zip(*(tf.nest.flatten(made.built.model(i, training=False)) for i in (inputs, more)), strict=True):
        seen = tf.cast(inputs["padding_mask"], tf.bool)
        if one.shape[1:2] == seen.shape[1:]:  # an output a token
            one, other = one[seen], other[:, :-3][seen]
        assert np.allclose(one, other, atol=1e-4)


@pytest.fixture
def eagerly():
    yield tf.config.run_functions_eagerly
    tf.config.run_functions_eagerly(False)


def test_bfloat16_gives_numbers(case, learnt, eagerly):
    made = make(case, "bfloat16")
    serving.set_weights(made.built.model, {v.path: v.numpy() for v in learnt[0].built.model.weights}, "learnt")
    assert all(np.isfinite(output).all() for output in tf.nest.flatten(made.built.served(ids_of(made))))
    eagerly(True)  # two steps are quicker than a graph
    assert np.isfinite(train(made, 2)).all()


def test_a_loaded_model_gives_the_same_and_a_row_alone_is_a_row_of_many(learnt, loaded):
    made = learnt[0]
    inputs = ids_of(made)
    found, wanted = loaded.model(inputs, training=False), made.built.served(inputs, training=False)
    mask = tf.cast(inputs["padding_mask"], tf.bool)
    if found.shape[:2] == mask.shape:  # outputs of padding mean nothing
        found, wanted = found[mask], wanted[mask]
    assert np.allclose(found, wanted, atol=1e-5)
    many = answers(loaded.task, loaded(made.raw))
    for row in (0, 4):
        (alone,) = answers(loaded.task, loaded({name: values[row : row + 1] for name, values in made.raw.items()}))
        assert close(alone, many[row])
    assert answers(loaded.task, loaded({name: values[:0] for name, values in made.raw.items()})) == []


def test_reports_have_the_scalars_that_may_pick_the_best(case, learnt, loaded):
    made = learnt[0]
    assert made.task.best[0] in made.task.figures and made.task.best_by(made.task.figures[0])[0] == made.task.figures[0]
    with pytest.raises(UsageError, match=f"--best_metric=none: --task={case.task} has {made.task.figures[0]}"):
        made.task.best_by("none")
    if case.gold:
        scorer = loaded.task.scorer(True)
        raw = {name: values.numpy() for name, values in made.raw.items()}
        gold = zip(made.task.gold, case.gold.values(), strict=True)
        raw |= {name: np.array([value.encode() for value in values], object) for name, values in gold}
        scorer.update(raw, {name: value.numpy() for name, value in loaded(made.raw).items()})
        scalars = scorer.result().scalars()
        assert made.task.best[0] in scalars and set(scalars) <= set(made.task.figures)


def test_kept_states_of_frozen_layers_change_nothing(learnt):
    made = learnt[0]
    if not getattr(made.task, "repeats", False):
        pytest.skip("its inputs change from epoch to epoch, so its states are not kept")
    wanted = tf.nest.flatten(made.built.model(made.batch[0], training=False))
    made.encoder.cache = StateCache(made.encoder.config.hidden_dim)
    try:
        read = graphs.function(lambda: tf.nest.flatten(made.built.model(made.batch[0], training=False)))
        seen = tf.cast(made.batch[0]["padding_mask"], tf.bool)
        for _ in ("computed", "read"):
            for one, other in zip(wanted, read(), strict=True):
                if one.shape[1:2] == seen.shape[1:]:  # an output a token
                    one, other = one[seen], other[seen]
                assert np.allclose(one, other, atol=1e-5)
        assert len(made.encoder.cache) == len({row.numpy().tobytes() for row in made.batch[0]["token_ids"]})
    finally:
        made.encoder.cache = None


def nodes(path: Path) -> Iterator[Any]:
    """All nodes of an exported model's functions."""
    saved = saved_model_pb2.SavedModel.FromString((path / "saved_model.pb").read_bytes())
    for meta in saved.meta_graphs:
        for function in meta.graph_def.library.function:
            yield from function.node_def


def test_every_export_gets_its_certificate(learnt, loaded, certified, elsewhere, tmp_path, monkeypatch, request):
    monkeypatch.setattr(certificate, "replay_fresh", elsewhere)
    path = serving.export(loaded, tmp_path / request.node.callspec.id, target_serving="2.12")  # see tools/old_servers.py
    report = json.loads((path / "assets.extra" / "export_report.json").read_text())
    task = loaded.task
    assert report["tf_serving"] == {"oldest": "2.12", "newer_than_2.12": {}} and report["golden"]["largest"] < 1e-5
    ids = "token_ids" if "tokens" in task.signatures() else "tokens"
    assert set(report["signatures"]) == {*task.signatures(), "examples", ids}
    golden = [json.loads(line) for line in (path / "assets.extra" / "golden.jsonl").read_text(encoding="utf-8").splitlines()]
    assert {request["signature_name"] for request in golden} == set(report["signatures"])
    # kbert serve answers several requests at once: an output whose width varies is as wide as the greatest `count`.
    shapes = {name: spec["shape"] for name, spec in report["signatures"]["serving_default"]["outputs"].items()}
    answers = golden[2]["outputs"]
    varying = [name for name, shape in shapes.items() if shape == [-1, -1] and shapes.get("count") == [-1]]
    assert all(len(row) == max(answers["count"]) for name in varying for row in answers[name])
