"""The parts of kbert serve that need no model: the queue, the versions of a directory, JSON."""

import json
import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from kbert.server import examples, json_tensors
from kbert.server.batching import Batcher, tokens_of
from kbert.server.metrics import Metrics
from kbert.server.service import Limits, Service
from kbert.server.status import Status, shown
from kbert.server.versions import Versions


class Function:
    """A signature that notes its batches, and waits at a gate."""

    def __init__(self, merges: bool = True):
        self.merges, self.counted = merges, {"words"}
        self.gate, self.begun = threading.Event(), threading.Event()
        self.batches: list[list[bytes]] = []

    def __call__(self, inputs):
        texts = inputs["text"].tolist()
        self.batches.append(texts)
        self.begun.set()
        assert self.gate.wait(60)
        if b"wrong" in texts:
            raise Status("INVALID_ARGUMENT", "wrong")
        if b"fault" in texts:
            raise ZeroDivisionError
        rows = [text.split() for text in texts]
        widest = max(map(len, rows))
        padded = np.array([row + [b""] * (widest - len(row)) for row in rows], object).reshape(len(rows), widest)
        return {"count": np.array([len(row) for row in rows]), "words": padded}


def texts(*each: str) -> dict[str, np.ndarray]:
    return {"text": np.array([text.encode() for text in each], object)}


@pytest.fixture
def batcher():
    made = Batcher(token_budget=60, delay=0.0, max_waiting=6, threads=1, metrics=Metrics())
    yield made
    made.close()


def blocked(batcher: Batcher, merges: bool = True) -> Function:
    """A function whose first request is being answered until its gate opens."""
    function = Function(merges)
    batcher.submit(function, texts("first"), 1, 60)
    assert function.begun.wait(60)
    return function


def test_what_waits_is_answered_together_short_with_short(batcher):
    function = blocked(batcher)
    sent = ["a b", "long " * 30, "c", "long " * 31, "d e f"]
    futures = [batcher.submit(function, texts(text), 1, 60) for text in sent]
    function.gate.set()
    found = [future.result(60) for future in futures]
    # The oldest with those near to it; a text beyond the budget shares it with none, as padding counts.
    assert function.batches == [[b"first"], [b"a b", b"c", b"d e f"], [sent[1].encode()], [sent[3].encode()]]
    # Each has the width that it would have alone.
    assert [answer["words"].tolist() for answer in found] == [[text.encode().split()] for text in sent]
    assert [answer["count"].tolist() for answer in found] == [[len(text.split())] for text in sent]


def test_requests_of_what_does_not_merge_or_of_other_functions_are_alone(batcher):
    function, other = blocked(batcher, merges=False), Function()
    other.gate.set()
    futures = [batcher.submit(which, texts("a"), 1, 60) for which in (function, other, function, other)]
    function.gate.set()
    assert [future.result(60)["count"].tolist() for future in futures] == [[1]] * 4
    assert function.batches == [[b"first"], [b"a"], [b"a"]] and other.batches == [[b"a", b"a"]]


def test_a_full_queue_refuses_and_a_late_request_fails(batcher):
    function = blocked(batcher)
    late = batcher.submit(function, texts("late"), 1, 0.0)
    waiting = [batcher.submit(function, texts("a"), 1, 60) for _ in range(5)]
    with pytest.raises(Status, match="queue is full: 6 requests wait") as error:
        batcher.submit(function, texts("a"), 1, 60)
    assert (error.value.code, error.value.http) == ("RESOURCE_EXHAUSTED", 429)
    function.gate.set()
    with pytest.raises(Status, match="in the queue") as error:
        late.result(60)
    assert error.value.http == 504
    assert all(future.result(60)["count"].tolist() == [1] for future in waiting)


def test_one_requests_fault_is_not_the_others(batcher):
    function = blocked(batcher)
    futures = [batcher.submit(function, texts(text), 1, 60) for text in ("a", "wrong", "b")]
    function.gate.set()
    with pytest.raises(Status, match="^wrong$"):
        futures[1].result(60)
    assert [futures[i].result(60)["words"].tolist() for i in (0, 2)] == [[[b"a"]], [[b"b"]]]
    with pytest.raises(Status, match="ZeroDivisionError in the server") as error:
        batcher.submit(function, texts("fault"), 1, 60).result(60)
    assert error.value.http == 500
    assert batcher.submit(function, texts("after"), 1, 60).result(60)["count"].tolist() == [1]


def test_a_delay_lets_requests_join():
    batcher = Batcher(token_budget=60, delay=30.0, max_waiting=100, threads=1, metrics=Metrics())
    function = Function()
    function.gate.set()
    futures = [batcher.submit(function, texts("a b c d"), 1, 60) for _ in range(12)]
    assert all(future.result(60) for future in futures[:8])  # more than half of the budget is full: no more waiting
    assert len(function.batches[0]) > 1
    batcher.close()  # answers what is left at once
    assert all(future.done() for future in futures)
    with pytest.raises(Status, match="stopping"):
        batcher.submit(function, texts("a"), 1, 60)


def test_tokens_are_estimated_from_bytes():
    assert [tokens_of(text.encode()) for text in ("", "film", "中文很好")] == [2, 3, 6]


class Loaded:
    def __init__(self, path: Path):
        if (path / "saved_model.pb").read_text() == "broken":
            raise ValueError("no model\nmore")
        self.version = int(path.name)


def publish(folder: Path, version: int, text: str = "") -> None:
    (folder / str(version)).mkdir(exist_ok=True)
    (folder / str(version) / "saved_model.pb").write_text(text)


def states(versions: Versions) -> dict[int, str]:
    return {number: state for number, state, _ in versions.statuses("m")}


def test_the_newest_version_answers_and_the_old_one_goes_when_unused(tmp_path):
    versions = Versions(tmp_path, "m", Loaded)
    versions.poll()
    assert versions.available() == []
    with pytest.raises(Status, match=r"Latest\(m\)"), versions.use("m"):
        pass
    for name in ("1", ".writing-2", "old", "²"):
        (tmp_path / name).mkdir()
    publish(tmp_path, 1)
    versions.poll()
    with versions.use("m") as first:
        publish(tmp_path, 10)
        publish(tmp_path, 9)
        versions.poll()
        assert (first.version, states(versions)) == (1, {10: "AVAILABLE", 1: "UNLOADING"})
        with versions.use("m") as second:
            assert second.version == 10
        versions.poll()
        assert states(versions)[1] == "UNLOADING"
    versions.poll()
    assert states(versions) == {10: "AVAILABLE", 1: "END"}
    # It is removed: an older one answers again. The directory is away: all stay.
    for path in (tmp_path / "10").iterdir():
        path.unlink()
    (tmp_path / "10").rmdir()
    versions.poll()
    assert versions.available() == [9]
    tmp_path.rename(tmp_path.with_name("away"))
    versions.poll()
    assert versions.available() == [9]


def test_a_version_that_does_not_load_is_tried_again_when_it_has_changed(tmp_path):
    publish(tmp_path, 1)
    publish(tmp_path, 2, "broken")
    versions = Versions(tmp_path, "m", Loaded, wanted=(1, 2), labels={"stable": 1, "canary": 2})
    versions.poll()
    assert versions.statuses("m") == [(2, "END", "ValueError: no model"), (1, "AVAILABLE", "")]
    with versions.use("m", label="stable") as model:
        assert model.version == 1
    with pytest.raises(Status, match=r"Specific\(m, 2\)"), versions.use("m", label="canary"):
        pass
    before = versions._known[2]
    versions.poll()
    assert versions._known[2] is before
    publish(tmp_path, 2, "whole now")
    versions.poll()
    assert versions.available() == [1, 2] and versions.statuses("m", label="canary") == [(2, "AVAILABLE", "")]
    with versions.use("m") as model:
        assert model.version == 2
    publish(tmp_path, 3)
    versions.poll()
    assert versions.available() == [1, 2]  # --versions names those
    for number in (1, 2):
        shutil.rmtree(tmp_path / str(number))
    versions.poll()
    assert versions.available() == [1, 2]  # and no other takes their place


def test_a_watcher_sees_a_version_that_comes_later(tmp_path):
    versions = Versions(tmp_path, "m", Loaded)
    versions.watch(0.01)
    publish(tmp_path, 4)
    end = time.monotonic() + 60
    while not versions.available() and time.monotonic() < end:
        time.sleep(0.01)
    versions.close()
    assert versions.available() == [4]


def test_the_bytes_of_all_requests_are_bounded(tmp_path, batcher):
    service = Service(Versions(tmp_path, "m", Loaded), batcher, Limits(10, 15, 5, 1.0), Metrics())
    with service.held() as more:
        more(10)
        with pytest.raises(Status, match="--max_body_mb") as error:
            more(1)
        assert error.value.http == 413
        with service.held() as another, pytest.raises(Status, match="try again later") as error:
            another(8)
        assert error.value.http == 429
        with service.held() as another:
            another(4)
    with service.held() as more:
        more(10)


NAMES = ["text", "ids", "b64", "instances", "inputs", "examples", "context", "signature_name"]
LEAVES = (
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.sampled_from(["a", "\ud800", "\udc80", "AA=="])
)  # fmt: skip
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=3), max_leaves=10
)
SPECS = [
    {"text": tf.TensorSpec([None], tf.string)},
    {"text": tf.TensorSpec([None], tf.string), "ids": tf.TensorSpec([None, None], tf.int32)},
    {"ids": tf.TensorSpec([None, 2], tf.float32)},
    {"ids": tf.TensorSpec([None], tf.bool)},
]


@given(st.dictionaries(st.sampled_from(NAMES[3:]), VALUES, max_size=3), st.sampled_from(SPECS))
def test_any_document_becomes_tensors_or_a_refusal(document, specs):
    """Never another error, which would be answered by 500."""
    body = json.dumps(document).encode()
    for read in (
        lambda found: json_tensors.inputs_of(found, specs, 5)[0],
        lambda found: {"text": examples.serialized(found, "classify", 5)},
    ):
        try:
            arrays = read(json_tensors.parsed(body))
        except Status as error:
            assert error.http == 400 and json_tensors.dumped({"error": str(error)}).encode()
        else:
            assert all(json_tensors.plain_values(array) is not None for array in arrays.values())


def test_messages_quote_little_of_what_came():
    assert shown("a" * 1000) == "'" + "a" * 79 + "..."
    assert shown("\ud800\n") == r"'\ud800\n'" and shown([[[]]] * 7) == "a list of 7" and shown(1.5) == "1.5"
    assert len(str(Status("INTERNAL", "x" * 5000))) < 1100
