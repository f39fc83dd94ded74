"""Places of entities as files write them: blanks at their edges, UTF-16 units, bytes, inclusive ends, and what shows that they are wrong."""

import json
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kbert import evaluate, finetune
from kbert.data.entity_reader import Counting, EntityReader, placed
from kbert.data.offsets import Places, inside_word, trimmed
from kbert.data.spans import Entity
from kbert.errors import DataError, UsageError
from kbert.source import SourceConfig
from kbert.tasks import fine_tuned

TEXT = "Zoë 😀 met Ada Osei in Oslo, 电影 👩‍🚀."
SPANS = {"PER": "Ada Osei", "LOC": "Oslo", "X": "电影", "Y": "👩‍🚀"}
WIDTHS = {"characters": len, "utf16": lambda t: len(t.encode("utf-16-le")) // 2, "bytes": lambda t: len(t.encode())}


def written(text, spans, offsets="characters", ends="exclusive", blank=0):
    """The places of surfaces in a text, as a file of that counting has them."""
    width, found = WIDTHS[offsets], []
    for kind, surface in spans.items():
        at = text.index(surface)
        start, end = width(text[:at]), width(text[: at + len(surface) + blank])
        found.append([start, end - (ends == "inclusive"), kind])
    return found


def read(gold, text=TEXT, **settings):
    reader = EntityReader(SourceConfig(**settings))
    return json.loads(reader((text, json.dumps(gold)))[1])


@pytest.mark.parametrize("offsets", WIDTHS)
@pytest.mark.parametrize("ends", ["exclusive", "inclusive"])
def test_every_counting_means_the_same(offsets, ends):
    found = read(written(TEXT, SPANS, offsets, ends), offsets=offsets, ends=ends)
    assert {kind: TEXT[start:end] for start, end, kind in found} == SPANS
    clueners = {kind: {SPANS[kind]: [[start, end]]} for start, end, kind in written(TEXT, SPANS, offsets, ends)}
    assert read(clueners, offsets=offsets, ends=ends) == found, "a flag holds for every layout"
    if ends == "inclusive":
        assert read(clueners, offsets=offsets) == found, "and without it ends are inclusive there"


@given(st.text(max_size=12), st.sampled_from(["utf16", "bytes"]))
def test_each_character_has_its_place(text, unit):
    if any("\ud800" <= c <= "\udfff" for c in text):
        return
    places = Places(text, unit)
    starts = [WIDTHS[unit](text[:i]) for i in range(len(text) + 1)]
    assert [places.character(start) for start in starts] == list(range(len(text) + 1))
    for inside in set(range(starts[-1])) - set(starts):
        with pytest.raises(ValueError, match=f"offset {inside} is inside a character"):
            places.character(inside)
    assert places.character(starts[-1] + 3) == len(text) + 3


def test_blanks_at_the_edges_are_no_part(caplog):
    caplog.set_level(logging.WARNING)
    text = "in\u00a0Oslo \u200b\ufeff, \u3000 x"
    assert trimmed(text, 2, 10) == (3, 7) and trimmed("a  ", 1, 3) == (1, 1)
    gold = json.dumps([{"start": 2, "end": 8, "type": "LOC", "text": "Oslo"}, {"start": 12, "end": 13, "type": "Z"}])
    reader = EntityReader(SourceConfig())
    assert json.loads(reader((text, gold))[1]) == [[3, 7, "LOC"]]
    reader.finish("file")
    reader((text, gold))  # as rows are read again in each epoch
    assert "file: 1 of 2 entities begin or end with blanks, which are trimmed" in caplog.text
    assert "file: 1 entities contain only blanks and are dropped" in caplog.text


def test_where_words_are_cut():
    cut = "".join("|" * inside_word(TEXT, place) + c for place, c in enumerate(TEXT))
    assert cut.replace("\u200d", "J") == "Z|o|ë 😀 m|e|t A|d|a O|s|e|i i|n O|s|l|o, 电影 👩|J|🚀."
    assert (
        not inside_word("电影很好", 2) and not inside_word("3kg", 1) and inside_word("e\u0301a", 1) and inside_word("2024", 2)
    )


def rows(count, offsets="characters", ends="exclusive", lead="😀 "):
    names = ["Ada Osei", "Bo Li", "Carla Novak", "Zoë Strand"]
    for i in range(count):
        text = f"{lead}{names[i % 4]} lives in Oslo, he said."
        yield text, json.dumps(written(text, {"PER": names[i % 4], "LOC": "Oslo"}, offsets, ends))


@pytest.mark.parametrize(
    ("offsets", "ends", "said"),
    [
        ("characters", "inclusive", "with --ends=inclusive 40 of these 40 would not"),
        ("utf16", "exclusive", "with --offsets=utf16 40 of these 40 would not"),
        ("utf16", "inclusive", "with --offsets=utf16 --ends=inclusive"),
    ],
)
def test_places_that_cut_words_are_an_error(offsets, ends, said):
    reader = EntityReader(SourceConfig())
    for row in rows(20, offsets, ends):
        reader(row)
    with pytest.raises(DataError) as error:
        reader.finish("train.jsonl")
    message = str(error.value)
    assert message.startswith("train.jsonl: ") and "entities begin or end inside a word" in message and said in message
    assert message.count("PER: ") == 2 and "[" in message, "two rows as they were understood"


def test_few_rows_that_differ_are_enough():
    """Of a hundred rows five have an emoji: only there do UTF-16 units differ."""
    reader = EntityReader(SourceConfig())
    for row in [*rows(95, lead="So "), *rows(5, "utf16")]:
        reader(row)
    with pytest.raises(DataError, match="--offsets=utf16"):
        reader.finish("file")


def test_what_the_user_says_of_the_places_holds(caplog):
    reader = EntityReader(SourceConfig(offsets="characters", ends="exclusive"))
    for row in rows(20, ends="inclusive"):
        reader(row)
    reader.finish("file")
    assert "with --ends=inclusive 40 of these 40 would not" in caplog.text
    for good in (rows(20), rows(20, lead="")):
        reader = EntityReader(SourceConfig())
        for row in good:
            reader(row)
        reader.finish("file")


@pytest.mark.parametrize(
    ("gold", "settings", "said"),
    [
        ([[0, 0, "X"]], {}, "characters 0 to 0 .exclusive.;.* its start; with --ends=inclusive the entities of this row fit"),
        ([[10, 16, "X"]], {}, "the text has 7 characters.*; with --offsets=bytes the entities of this row fit"),
        ([{"start": 6, "end": 8, "type": "X", "text": "电影"}], {}, "the text has 7 characters.*; with --offsets=utf16"),
        ([{"start": 4, "end": 5, "type": "X", "text": "很"}], {}, "where the text has ' '; with --offsets=utf16 the entities"),
        ([[4, 5, "X"]], {"offsets": "bytes"}, "bytes 4 to 5 .exclusive.: offset 4 is inside a character; with --offsets=char"),
        (
            {"X": {"a": [[0, 0]]}},
            {"ends": "exclusive"},
            "characters 0 to 0 .exclusive.; .*; with --ends=inclusive the entities",
        ),
        ([[0, 90, "X"]], {}, "an entity must start inside it and end after its start$"),
    ],
)
def test_what_would_fit_is_named(gold, settings, said):
    with pytest.raises(ValueError, match=said):
        read(gold, "a😀 很 电影", **settings)


def test_layouts_and_their_surfaces():
    with pytest.raises(
        ValueError, match="'ab' is at characters 0 to 1 .exclusive., where the text has 'a'; with --ends=inclusive"
    ):
        read([{"start": 0, "end": 1, "type": "name", "text": "ab"}], "ab d")
    with pytest.raises(ValueError, match="'xy' is at characters 0 to 1 .inclusive., where the text has 'ab'$"):
        read({"name": {"xy": [[0, 1]]}}, "ab d")


def test_surfaces_are_compared_in_every_layout():
    for gold in ([[0, 2, "X"]], {"start": [0], "end": [2], "type": ["X"], "text": ["bc"]}):
        if isinstance(gold, dict):
            with pytest.raises(ValueError, match="'bc' is at characters 0 to 2"):
                read(gold, "ab d")
        else:
            assert read(gold, "ab d") == gold
    assert placed([Entity(0, 1, "X", "ab ", True)], "ab d", Counting()) == [(0, 2, "X")]


def test_tasks_without_places_refuse_the_flags():
    for task in ("classify", "match", "aspect"):
        with pytest.raises(UsageError, match="--offsets=utf16: the rows of this task have no places in a text"):
            fine_tuned(task).reader(SourceConfig(offsets="utf16"))


def test_commands(checkpoint, tmp_path, capsys):
    """Blanks change no figure; flags of training hold for later files, and flags of evaluate for its own."""
    texts = ["the film is very good .", "a dull plot , and bad film .", "😀 fine film is fine"] * 4
    for name, counting, blank in (
        ("inclusive", {"offsets": "utf16", "ends": "inclusive"}, 0),
        ("blank", {}, 1),
        ("plain", {}, 0),
    ):
        rows = [{"text": text, "label": written(text, {"thing": "film"}, blank=blank, **counting)} for text in texts]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    files = [f"--train_data={tmp_path / 'inclusive.jsonl'}", f"--dev_data={tmp_path / 'inclusive.jsonl'}"]
    flags = [f"--init={checkpoint}", *files, f"--model_dir={tmp_path / 'm'}", "--epochs=0", "--max_length=20", "--stride=4"]
    assert finetune.main(["--task=tag", *flags]) == 1
    error = capsys.readouterr().err
    assert "12 of 12 entities begin or end inside a word" in error and "with --ends=inclusive" in error
    assert finetune.main(["--task=classify", *flags[:-1], "--ends=inclusive"]) == 2
    assert finetune.main(["--task=tag", *flags, "--offsets=utf16", "--ends=inclusive"]) == 0
    capsys.readouterr()
    figures = []
    for name, more in (
        ("inclusive", []),
        ("blank", ["--ends=exclusive"]),
        ("plain", ["--ends=exclusive", "--offsets=characters"]),
    ):
        more = [*more, "--offsets=characters"] if name == "blank" else more
        out = f"--metrics_out={tmp_path / 'metrics.json'}"
        assert evaluate.main([f"--model_dir={tmp_path / 'm'}", f"--data={tmp_path / f'{name}.jsonl'}", out, *more]) == 0
        figures.append(json.loads((tmp_path / "metrics.json").read_text()))
        assert ("12 of 12 entities begin or end with blanks" in capsys.readouterr().err) == (name == "blank")
    assert figures[0] == figures[1] == figures[2] and figures[0]["gold"] == 12
