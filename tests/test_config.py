"""Configurations to JSON and back."""

import dataclasses
import json

import pytest

from kbert.config import EncoderConfig, ModelConfig, TextConfig, TrainConfig
from kbert.errors import DataError
from kbert.pretrain_config import PretrainConfig
from kbert.settings import from_json, to_json
from kbert.source import Recorded, SourceConfig, SourceOverrides

MODEL = ModelConfig(
    task="classify",
    fields=("text",),
    labels=("a", "中"),
    options={"pooling": "cls"},
    encoder=EncoderConfig(vocabulary_size=5, num_layers=1, num_heads=1, hidden_dim=4, intermediate_dim=8),
    text=TextConfig(lowercase=True, strip_accents=False),
)
TRAIN = TrainConfig(init="x", train_data="y", source=SourceConfig(columns=("a", "b")), early_stopping_patience=2)


@pytest.mark.parametrize("value", [MODEL, TRAIN], ids=["model", "train"])
def test_round_trip(value):
    text = json.dumps(to_json(value))
    assert from_json(type(value), json.loads(text), "f") == value


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"colour": 1}, "f: unknown key 'colour'"),
        ({"task": None}, "f: task: expected str, found None"),
        ({"max_length": "long"}, "f: max_length: expected int, found 'long'"),
        ({"max_length": True}, "f: max_length: expected int, found True"),
        ({"serving_precision": "int3"}, "f: serving_precision: expected one of float32, bfloat16, float16, found 'int3'"),
        ({"labels": "ab"}, "f: labels"),
        ({"encoder": 3}, "f: encoder: expected an object, found int"),
        ({"encoder": {"num_layers": 1}}, "f: encoder: key 'vocabulary_size' is missing"),
    ],
)
def test_wrong_documents_are_named(change, message):
    with pytest.raises(DataError) as caught:
        from_json(ModelConfig, {**to_json(MODEL), **change}, "f")
    assert message in str(caught.value)


def test_overrides_replace_only_what_was_given():
    recorded = SourceConfig(columns=("a", "b"), text_columns=("x",), encoding="gb18030")
    source, training = Recorded(source=recorded).overridden(SourceOverrides())
    assert source == SourceConfig(text_columns=("x",)) and training.source == recorded  # files say first how they are written
    source, training = Recorded(source=recorded).overridden(SourceOverrides(columns=(), label_column="y", encoding="big5"))
    assert source == SourceConfig(text_columns=("x",), label_column="y", encoding="big5")
    assert training.source == dataclasses.replace(recorded, columns=(), label_column="y", encoding="big5")


@pytest.mark.parametrize(
    ("given", "length", "most"), [({}, 128, 20), ({}, 512, 77), ({"mask_rate": 0.4}, 128, 52), ({"max_predictions": 5}, 128, 5)]
)
def test_predictions_of_an_example(given, length, most):
    assert PretrainConfig(train_data="x", **given).predictions(length) == most


def test_names_of_columns_with_commas():
    for written, columns in (("label", ("label",)), ('a, "b, c" ,d', ("a", "b, c", "d")), ("", ()), ("a,,b", ("a", "", "b"))):
        assert SourceConfig(label_column=written).label_columns == columns
    recorded = SourceConfig(label_column='a,"b, c"')
    swapped, _ = Recorded(source=recorded).overridden(SourceOverrides(label_column='"b, c",a'))
    assert swapped.label_columns == ("a", "b, c")
