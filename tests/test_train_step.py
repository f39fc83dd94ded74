"""One step: parts of a batch add up to the batch; losses that are lost are seen."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kbert.cluster import check
from kbert.errors import UsageError
from kbert.train.loss_watch import SPAN, LossDiverged, LossWatch
from kbert.train.objective import Objective
from kbert.train.step import TrainStep
from kbert.train.strategies import devices

ROWS = 22  # the last of three parts of 8 has 6


def batch(seed: int = 0):
    """Rows with tags at some places: a mean over tags is not a mean of the rows' or parts' means."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(ROWS, 5, 4)).astype(np.float32)
    tags = rng.integers(0, 3, (ROWS, 5))
    weights = np.tril(np.ones((ROWS, 5), np.float32), -2)  # none in the first rows, all in the last
    return {"x": x}, {"tag": tags, "row": rng.integers(0, 2, ROWS)}, {"tag": weights}


def two_heads() -> keras.Model:
    keras.utils.set_random_seed(1)
    x = keras.Input((None, 4), name="x")
    hidden = keras.layers.Dense(6, activation="tanh")(x)
    tag = keras.layers.Dense(3, name="tag")(hidden)
    row = keras.layers.Dense(2, name="row")(keras.layers.GlobalAveragePooling1D()(hidden))
    unused = keras.layers.Dense(2, name="unused")(hidden)
    model = keras.Model({"x": x}, {"tag": tag, "row": row, "unused": unused})
    return model


def objective() -> Objective:
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    metrics = {
        "tag": [keras.metrics.SparseCategoricalAccuracy(name="tag_accuracy")],
        "row": [keras.metrics.SparseCategoricalAccuracy(name="row_accuracy")],
    }
    return Objective({"tag": loss, "row": loss}, metrics)


def stepped(rows: int | None, steps: int = 3, fixed: bool = False):
    """Weights, results and the last loss after some steps of SGD, which shows the gradients themselves."""
    model = two_heads()
    optimizer = keras.optimizers.SGD(0.5, global_clipnorm=0.3)
    optimizer.build(model.trainable_variables)
    step = TrainStep(model, optimizer, objective(), rows=rows)
    data = iter(tf.data.Dataset.from_tensor_slices(batch()).batch(ROWS, drop_remainder=fixed).repeat())
    sums = step.zeros()
    for _ in range(steps):
        sums, loss = step(data, sums)
    return [np.array(w) for w in model.get_weights()], step.results(sums), float(loss)


@pytest.mark.filterwarnings("ignore:Gradients do not exist")
def test_parts_add_up_to_the_batch():
    whole, results, loss = stepped(None)
    initial = two_heads().get_weights()
    assert any(not np.array_equal(a, b) for a, b in zip(initial, whole, strict=True))
    for rows, fixed in ((8, False), (5, False), (ROWS // 2, True)):  # TPUs have batches of fixed shape
        weights, in_parts, loss_in_parts = stepped(rows, fixed=fixed)
        for a, b in zip(whole, weights, strict=True):
            assert np.allclose(a, b, atol=2e-6)
        assert loss_in_parts == pytest.approx(loss, abs=1e-6) and in_parts == pytest.approx(results, abs=1e-6)


def test_losses_and_metrics_are_means_over_what_has_weight():
    model = two_heads()
    inputs, targets, weights = batch()
    outputs = {name: np.array(value) for name, value in model(inputs).items()}
    logs = {name: np.array(tf.nn.log_softmax(value)) for name, value in outputs.items()}
    tags = np.take_along_axis(logs["tag"], targets["tag"][..., None], -1)[..., 0]
    rows = np.take_along_axis(logs["row"], targets["row"][:, None], -1)[:, 0]
    expected = -(tags * weights["tag"]).sum() / weights["tag"].sum() - rows.mean()
    right = (outputs["tag"].argmax(-1) == targets["tag"]) * weights["tag"]
    given = objective()
    weighed = given.weights(targets, weights)
    totals = {name: tf.reduce_sum(each) for name, each in weighed.items()}
    assert float(given.loss(targets, outputs, weighed, totals)) == pytest.approx(expected, abs=1e-6)
    found = given.results(given.sums(targets, outputs, weighed))
    assert found["tag_accuracy"] == pytest.approx(right.sum() / weights["tag"].sum())
    assert found["row_accuracy"] == pytest.approx((outputs["row"].argmax(-1) == targets["row"]).mean())
    # Where some weigh more, so does their loss; accuracy is still the share of what counts.
    heavier = {"tag": weights["tag"] * np.random.default_rng(1).uniform(1, 5, weights["tag"].shape).astype(np.float32)}
    weighed = given.weights(targets, heavier)
    totals = {name: tf.reduce_sum(each) for name, each in weighed.items()}
    expected = -(tags * heavier["tag"]).sum() / heavier["tag"].sum() - rows.mean()
    assert float(given.loss(targets, outputs, weighed, totals)) == pytest.approx(expected, abs=1e-6)
    assert given.results(given.sums(targets, outputs, weighed))["tag_accuracy"] == pytest.approx(found["tag_accuracy"])


def test_a_loss_that_is_no_number_is_found_one_step_later_or_when_asked():
    for lost in (float("nan"), float("inf")):
        watch = LossWatch()
        watch.add(1, 1.0)
        watch.add(2, lost)
        with pytest.raises(LossDiverged, match="not a number at step 2") as caught:
            watch.add(3, 1.0)
        assert caught.value.step == 2
        watch = LossWatch()
        watch.add(7, lost)
        with pytest.raises(LossDiverged):
            watch.check()


def test_a_loss_far_above_its_level_is_found_where_asked_for():
    losses = [2.0 - step / SPAN for step in range(SPAN)]
    for limit, found in ((None, False), (3.0, True), (9.0, False)):
        watch, other = LossWatch(limit), LossWatch(limit)
        watch.add(0, 50.0)  # the first steps may lose anything
        for step, loss in enumerate(losses, 1):
            watch.add(step, loss)
        watch.check()
        other.restore(watch.state())
        for one in (watch, other):  # a run that goes on knows the level
            one.add(SPAN + 1, 12.0)
            if found:
                with pytest.raises(
                    LossDiverged, match=f"the loss is 12 at step {SPAN + 1}, above --loss_limit=3 times its level"
                ):
                    one.check()
            else:
                one.check()


def test_batches_that_do_not_divide():
    with pytest.raises(
        UsageError, match="--batch_size=10 counts the whole batch and cannot be split among 1 replica of 4 parts each"
    ):
        devices("none", 10, 4)
    assert devices("none", 12, 4).rows == 3 and devices("none", 12, 1).rows is None


CLUSTER = '"cluster": {"worker": ["a:1", "b:1"]}'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "TF_CONFIG is not set; each worker needs"),
        ("{", "is not of the form"),
        ("[]", "is not of the form"),
        ("{" + CLUSTER + "}", "is not of the form"),
        ("{" + CLUSTER + ', "task": {"type": "worker", "index": 2}}', "TF_CONFIG's cluster has no worker 2"),
        ("{" + CLUSTER + ', "task": {"type": "ps", "index": 0}}', "TF_CONFIG's cluster has no ps 0"),
        (
            "{" + CLUSTER + ', "task": {"type": "worker", "index": 1}}',
            "--batch_size=33 counts the whole batch and cannot be split among 2 workers",
        ),
    ],
)
def test_what_several_workers_need(monkeypatch, text, message):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if text is not None:
        monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(UsageError) as caught:
        check("multi_worker", 33)
    assert message in str(caught.value)


def test_rows_of_a_table_that_come_several_times_are_one_gradient():
    """Its norm, which is clipped by, and its square, which Adam keeps, are those of the sum."""

    def stepped(lookup) -> np.ndarray:
        keras.utils.set_random_seed(1)
        x = keras.Input((None,), dtype="int32", name="x")
        model = keras.Model({"x": x}, {"row": keras.layers.Dense(2)(keras.layers.GlobalAveragePooling1D()(lookup(x)))})
        rng = np.random.default_rng(0)
        model.set_weights([rng.normal(size=weight.shape) for weight in model.weights])
        optimizer = keras.optimizers.AdamW(0.1, global_clipnorm=0.01, epsilon=1e-2)
        optimizer.build(model.trainable_variables)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        step = TrainStep(model, optimizer, Objective({"row": loss}, {}))
        rows = {"x": np.array([[1, 1, 1, 2], [1, 1, 3, 3]], np.int32)}, {"row": np.array([0, 1])}
        data = iter(tf.data.Dataset.from_tensor_slices(rows).batch(2).repeat())
        for _ in range(3):
            step(data, step.zeros())
        return np.array(model.get_weights()[0])

    class OneHot(keras.layers.Embedding):
        def call(self, inputs):
            return keras.ops.one_hot(inputs, 4) @ self.embeddings

    tables = [stepped(kind(4, 3, name="table")) for kind in (keras.layers.Embedding, OneHot)]
    np.testing.assert_allclose(*tables, atol=1e-6)
