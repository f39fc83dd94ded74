"""`--cache_frozen`: what frozen layers compute is kept, and a run is as without."""

import numpy as np
import pytest
import tensorflow as tf
from conftest import finetune_flags

from kbert import finetune, graphs
from kbert.config import TrainConfig
from kbert.errors import UsageError
from kbert.model import state_cache
from kbert.model.state_cache import StateCache
from kbert.model_dir import ModelDir
from kbert.pretrain_config import PretrainConfig
from kbert.train import frozen_cache
from kbert.train.loss_watch import LossWatch

HIDDEN = 4


def batch(*texts: list[int]) -> dict[str, tf.Tensor]:
    """Ids, segments and mask of some inputs, padded."""
    ids = tf.ragged.constant(texts, dtype=tf.int32)
    mask = tf.sequence_mask(ids.row_lengths(), dtype=tf.int32)
    return {"token_ids": ids.to_tensor(), "segment_ids": tf.zeros_like(mask), "padding_mask": mask}


class Layers:
    """Frozen layers that count how often they are computed."""

    def __init__(self, cache: StateCache, first_only: bool = False):
        self.computed = tf.Variable(0)
        self.cache, self.first_only = cache, first_only
        self._graph = graphs.function(
            self._run, input_signature=[{n: tf.TensorSpec([None, None], tf.int32) for n in batch([1])}]
        )

    def _compute(self, inputs):
        self.computed.assign_add(1)
        ids = tf.cast(inputs["token_ids"], tf.float32)[:, : 1 if self.first_only else None]
        return ids[:, :, None] / 3 * tf.ones(HIDDEN)

    def _run(self, inputs):
        return self.cache(inputs, lambda: self._compute(inputs), self.first_only)

    def __call__(self, *texts: list[int]) -> np.ndarray:
        return self._graph(batch(*texts)).numpy()


class TestStateCache:
    def test_inputs_are_found_in_any_batch_and_padding(self):
        run = Layers(StateCache(HIDDEN))
        run([1, 2, 3], [4])
        assert int(run.computed) == 1
        states = run([4], [1, 2, 3], [4])
        assert int(run.computed) == 1 and states.shape == (3, 3, HIDDEN)
        assert np.allclose(states[1], np.array([1, 2, 3])[:, None] / 3) and np.allclose(states[[0, 2], 0], 4 / 3)
        run([4], [5])  # one is unknown
        assert int(run.computed) == 2 and len(run.cache) == 3

    def test_first_tokens_alone(self):
        cache = StateCache(HIDDEN)
        whole, first = Layers(cache), Layers(cache, first_only=True)
        whole([1, 2])
        assert first([1, 2]).shape == (1, 1, HIDDEN) and int(first.computed) == 1
        assert first([1, 2], [1, 2]).shape == (2, 1, HIDDEN) and int(first.computed) == 1

    def test_half_precision_rounds_at_once(self):
        run = Layers(StateCache(HIDDEN, dtype="float16"))
        computed, read = run([1, 2]), run([1, 2])
        assert (computed == read).all() and (read == read.astype(np.float16)).all()

    def test_blocks_on_disk_are_found_and_a_damaged_one_is_not(self, tmp_path, monkeypatch, caplog):
        monkeypatch.setattr(state_cache, "BLOCK_BYTES", 3 * HIDDEN * 4)  # three states
        run = Layers(StateCache(HIDDEN, memory=0, folder=tmp_path))
        for text in ([1, 2], [3, 4], [5, 6, 7], [8]):
            run(text)
        assert "GB in " + str(tmp_path) in run.cache.describe(0)
        run.cache.close()
        assert len(list(tmp_path.glob("*.states"))) == 4
        again = Layers(StateCache(HIDDEN, memory=0, folder=tmp_path))
        assert np.allclose(again([5, 6, 7], [3, 4])[0], np.array([5, 6, 7])[:, None] / 3) and int(again.computed) == 0
        again.cache.close()
        path = tmp_path / "0002.states"
        path.write_bytes(path.read_bytes()[:-1] + b"x")
        (tmp_path / ".writing-0009.states").write_bytes(b"half")  # of a killed run
        third = Layers(StateCache(HIDDEN, memory=0, folder=tmp_path))
        assert f"{path}: not usable (damaged)" in caplog.text and not path.exists() and len(third.cache) == 3
        assert not list(tmp_path.glob(".writing*"))
        third([5, 6, 7])
        assert int(third.computed) == 1

    @pytest.mark.parametrize("where", ["disk", "memory"])
    def test_without_room_the_rest_is_computed(self, where, tmp_path, monkeypatch, caplog):
        monkeypatch.setattr(state_cache, "BLOCK_BYTES", 2 * HIDDEN * 4)
        monkeypatch.setattr(state_cache, "RESERVE", 1 << 60)
        run = Layers(StateCache(HIDDEN, memory=0, folder=tmp_path if where == "disk" else None))
        for _ in range(2):
            for text in ([1, 2], [3, 4], [5, 6]):
                assert np.allclose(run(text)[0], np.array(text)[:, None] / 3)
        assert f"GB in {run.cache.folder}" not in run.cache.describe(0)
        assert run.cache.full and int(run.computed) == 5 and "the others are computed each time" in run.cache.describe(0)
        assert ("No space left" in caplog.text) == (where == "disk")


@pytest.fixture
def losses(monkeypatch):
    """The losses of a run's steps."""
    found: list[float] = []
    add = LossWatch.add

    def kept(watch, step, loss):
        found.append(float(loss))
        add(watch, step, loss)

    monkeypatch.setattr(LossWatch, "add", kept)
    return found


def test_a_run_with_a_cache_is_the_run_without(checkpoint, data, losses, tmp_path, capfd):
    found, scores = {}, {}
    cached = {"cache_frozen": "disk", "cache_dir": tmp_path / "cache"}
    for name, more in {"without": {"cache_frozen": "off"}, "cold": cached, "warm": cached}.items():
        losses.clear()
        run = tmp_path / name
        flags = finetune_flags(checkpoint, data, run, freeze_layers=1, dropout=0, epochs=5, seed=1, learning_rate=0.02, **more)
        assert finetune.main(flags) == 0
        found[name], scores[name] = list(losses), ModelDir(run).best().metrics
        assert not (run / "frozen_cache").exists()
    assert len(found["without"]) == 60 and np.ptp(found["without"]) > 0.1
    assert np.allclose(found["cold"], found["without"], atol=1e-5)
    said = capfd.readouterr().err
    assert "states of 1 frozen layers: 192 inputs, 0.00 GB in memory, in " in said
    # A later run of the same rows finds the states, dev's too, and has the same bits.
    assert "states of 1 frozen layers: 232 inputs, 232 found, 0.00 GB in memory, 0.00 GB in " in said
    assert found["warm"] == found["cold"] and scores["warm"] == scores["cold"]
    assert scores["cold"]["loss"] == pytest.approx(scores["without"]["loss"], abs=1e-4)


def test_dev_is_measured_in_its_own_precision_with_a_cache_of_its_own(checkpoint, data, tmp_path):
    flags = finetune_flags(
        checkpoint, data, tmp_path / "run", freeze_layers=2, precision="bfloat16", cache_frozen="disk", cache_dir=tmp_path / "c"
    )
    assert finetune.main(flags) == 0
    assert len(list((tmp_path / "c").iterdir())) == 2
    assert sorted(len(np.load(path)["first"]) for path in (tmp_path / "c").rglob("*.npz")) == [40, 192]


@pytest.mark.parametrize(
    ("settings", "repeats", "reason"),
    [
        ({"cache_frozen": "off", "freeze_layers": 1}, True, ""),
        ({}, True, ""),
        ({"freeze_layers": 1}, True, None),
        ({"freeze_layers": 1}, False, "the inputs of the encoder are drawn afresh in each epoch"),
        ({"freeze_layers": 1, "epochs": 1}, True, "each row is read in one epoch only"),
        ({"freeze_layers": 1, "epochs": 1, "cache_frozen": "disk"}, True, None),
        ({"freeze_layers": 1, "strategy": "tpu"}, True, "--strategy=tpu is not supported"),
        ({"freeze_layers": 1, "strategy": "mirrored"}, True, None),
    ],
)
def test_why_there_is_no_cache(settings, repeats, reason):
    assert frozen_cache.why_not(TrainConfig(init="x", train_data="y", **settings), repeats, 10) == reason


def test_a_cache_that_cannot_be_is_refused_by_name():
    for settings, repeats, reason in (
        ({}, True, "no layer is frozen"),
        ({"freeze_layers": 1}, False, "the inputs of the encoder are drawn afresh"),
        ({"freeze_layers": 1, "strategy": "multi_worker"}, True, "--strategy=multi_worker"),
    ):
        train = TrainConfig(init="x", train_data="y", cache_frozen="memory", **settings)
        with pytest.raises(UsageError, match=f"--cache_frozen=memory: {reason}"):
            frozen_cache.why_not(train, repeats, 10)


def test_pretraining_has_no_cache_and_a_directory_without_use_is_refused():
    train = PretrainConfig(train_data="y", freeze_layers=1, cache_frozen="disk")
    with pytest.raises(UsageError, match="--cache_frozen=disk: the inputs of the encoder are drawn afresh"):
        frozen_cache.why_not(train, repeats=False, per_epoch=10)
    train = TrainConfig(init="x", train_data="y", freeze_layers=1, cache_frozen="memory", cache_dir="here")
    with pytest.raises(UsageError, match="--cache_dir=here: is for --cache_frozen=disk or auto, not memory"):
        frozen_cache.why_not(train, repeats=True, per_epoch=10)


def test_a_folder_in_use_leaves_the_states_in_memory(checkpoint, data, tmp_path, caplog):
    class Encoder:
        pass

    train = TrainConfig(init="x", train_data="y", freeze_layers=1, cache_frozen="disk", cache_dir=str(tmp_path))
    first, second = (frozen_cache.FrozenCache(train, tmp_path) for _ in range(2))
    for each in (first, second):
        each._key = lambda encoder, precision: "same"
    one, other = Encoder(), Encoder()
    one.config = other.config = type("Config", (), {"hidden_dim": HIDDEN})
    first.attach(one, "float32")
    second.attach(other, "float32")
    assert one.cache.folder == tmp_path / "same" and other.cache.folder is None and "in use" in caplog.text
    for each in (first, second):
        each.close()
    (tmp_path / "file").write_text("")
    third = frozen_cache.FrozenCache(TrainConfig(init="x", train_data="y", cache_dir=str(tmp_path / "file")), tmp_path)
    third._key = lambda encoder, precision: "same"
    third.attach(one, "float32")
    assert one.cache.folder is None and "Not a directory" in caplog.text
    third.close()
