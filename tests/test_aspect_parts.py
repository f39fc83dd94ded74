"""The parts of --task=aspect by themselves: sentences, what is kept of them, weights, labels, figures."""

import json

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import VOCABULARY

from kbert.config import EncoderConfig, ModelConfig, TextConfig
from kbert.data import three_lines
from kbert.data.indexing import open_table
from kbert.errors import DataError, UsageError
from kbert.saved import Figures
from kbert.source import SourceConfig
from kbert.tasks import splits
from kbert.tasks.aspect import labels, metrics, names, word_weights
from kbert.tasks.aspect.aspect_attention import AspectAttention
from kbert.tasks.aspect.audit import AspectAudit
from kbert.tasks.aspect.filtering import MOST, Filtering, mention_loss, some, text_logits
from kbert.tasks.aspect.options import Aspect, AspectOptions
from kbert.tasks.aspect.report import SENTENCES, AspectScorer
from kbert.tasks.aspect.selecting import joined, keep, positional_scores
from kbert.tasks.aspect.sentence_recall import BearingSentences
from kbert.tasks.aspect.sentences import LONGEST, NARROW, SHORTEST, sentences
from kbert.tasks.aspect.task import TASK
from kbert.tasks.aspect.text_filter import TextFilter
from kbert.train import batches as pipeline


@pytest.fixture(scope="module")
def tokenizer():
    from kbert.data.tokenizer import Tokenizer

    return Tokenizer(VOCABULARY, lowercase=True, strip_accents=True)


@pytest.fixture(scope="module")
def split(tokenizer):
    """A function from texts to, for each, its sentences as (text, first character, end)."""
    graph = tf.function(lambda texts: tuple(sentences(tokenizer, texts)), input_signature=[tf.TensorSpec([None], tf.string)])

    def run(*texts: str):
        row, ids, begins, ends = graph(tf.constant([text.encode("utf-8", "surrogateescape") for text in texts]))
        found = [[] for _ in texts]
        for text, first, last in zip(row.numpy(), begins.to_list(), ends.to_list(), strict=True):
            place = (first[0], last[-1]) if first else (0, 0)
            found[text].append((texts[text][place[0] : place[1]], *place))
        return found, ids

    return run


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A film. The plot!  is bad", ["A film.", "The plot!", "is bad"]),
        ("中文很好。电影坏！！“很好。”坏", ["中文很好。", "电影坏！！", "“很好。”", "坏"]),
        ("It is 3.5 a.m. now; fine", ["It is 3.5 a.m.", "now;", "fine"]),
        ("good\nbad\r\n\nfilm", ["good", "bad", "film"]),
        ('He said "good." Then (bad!) x', ['He said "good."', "Then (bad!)", "x"]),
        ("坏……好；很好?文", ["坏……", "好；", "很好?", "文"]),
        ("很好． 电影．坏｡好", ["很好．", "电影．坏｡", "好"]),
        ("good\rbad\u2028film\r\n \u0085x", ["good", "bad", "film", "x"]),
        ("...", ["..."]),
        ("  ", [""]),
        ("", [""]),
        ("a　film.　bad", ["a　film.", "bad"]),
    ],
)
def test_sentences(split, text, expected):
    found, _ = split(text)
    assert [sentence for sentence, *_ in found[0]] == expected


@settings(max_examples=60)
@given(st.lists(st.text(alphabet='good bad film中文。！.!?;…\n"”) 　3é\x00\x01', max_size=60), min_size=1, max_size=4))
def test_sentences_lose_nothing(split, tokenizer, texts):
    found, ids = split(*texts)
    whole = tokenizer.tokenize(tf.constant(texts)).to_list()
    flat = [token for row in ids.to_list() for token in row]
    assert flat == [token for row in whole for token in row]
    for text, rows in zip(texts, found, strict=True):
        places = [place for _, *pair in rows for place in pair]
        assert rows and places == sorted(places) and places[0] >= 0 and places[-1] <= len(text)


def test_long_sentences_are_cut_where_they_may_be(split):
    (pieces,), ids = split("中" * 5000)
    lengths = ids.row_lengths().numpy()
    assert (lengths[:-1] == LONGEST).all() and lengths.sum() == 5000
    assert [start for _, start, _ in pieces[1:]] == [end for *_, end in pieces[:-1]] and pieces[-1][2] == 5000
    clauses = ["中" * 20 + ", " + "文" * 9 + ",", "好" * 20 + "坏" * 5 + ",", "很" * 30]
    (pieces,), _ = split(" ".join(clauses))
    assert [text for text, *_ in pieces] == clauses
    _, ids = split("film " * 20 + "e,e " + "film " * 20)  # as 1,000
    assert ids.row_lengths().numpy().tolist() == [LONGEST, 11]
    _, ids = split("film " * 20 + "e, e " + "film " * 20)
    assert ids.row_lengths().numpy().tolist() == [22, 21]
    (pieces,), ids = split("a film is " + "unlike " * 20)  # un ##like
    assert len(pieces) > 1 and all(text.startswith(("a film", "unlike")) for text, *_ in pieces)
    assert ids.row_lengths().numpy().max() <= LONGEST
    (pieces,), _ = split("a, " + "e " * 40)
    assert [len(text.split()) for text, *_ in pieces] == [31, 10], "a comma that stands too early cuts nothing"


def plainly_cut(tokens: list[str]) -> list[int]:
    """Lengths of the parts of a sentence, in plain Python."""
    lengths, start = [], 0
    while len(tokens) - start > LONGEST:
        ends = range(start + LONGEST, start, -1)
        commas = [end for end in ends if tokens[end - 1] in NARROW and end >= start + SHORTEST]  # with spaces around
        words = [end for end in ends if not tokens[end].startswith("##")]
        end = (commas or words or [start + LONGEST])[0]
        lengths.append(end - start)
        start = end
    return [*lengths, len(tokens) - start] if tokens[start:] else lengths


@settings(max_examples=60)
@given(st.lists(st.lists(st.sampled_from(["film", ",", "中", "unlike", "good", "exx"]), max_size=120), min_size=1, max_size=3))
def test_cuts_are_those_of_plain_python(split, tokenizer, texts):
    _, ids = split(*map(" ".join, texts))
    found = [[VOCABULARY[token] for token in row] for row in ids.to_list()]
    expected = []
    for row in tokenizer.tokenize(tf.constant([" ".join(words) for words in texts])).to_list():
        pieces = [VOCABULARY[token] for token in row]
        expected += plainly_cut(pieces) or [0]
    assert [len(row) for row in found] == expected


def test_a_sentence_of_any_length_is_cut_whole(split):
    _, ids = split("中" * 300_000)
    lengths = ids.row_lengths().numpy()
    assert lengths.min() > 0 and lengths.max() <= LONGEST and lengths.sum() == 300_000


def test_of_very_many_sentences_some_are_learnt_from(tokenizer):
    texts = tf.constant(["good. " * 1000, "bad. good."])
    found = some(sentences(tokenizer, texts), 2, MOST)
    assert found.row.numpy().tolist() == [0] * MOST + [1, 1]
    places = [begins[0] // 6 for begins in found.begins.to_list()[:MOST]]
    assert set(np.diff(places)) == {3, 4} and found.ends.nrows() == found.token_ids.nrows() == MOST + 2


def test_what_rows_say_of_a_text_is_joined():
    """A coarse aspect is mentioned when any of its fine ones is, whichever row says so."""
    known = labels.TextLabels(ASPECTS, labels.LABELS)
    names = [aspect.name.encode() for aspect in ASPECTS[:2]]
    raw = {
        "text": np.array([b"x", b"y", b"x"]),
        "aspect": np.array([*names, names[1]]),
        "label": np.array([b"-2", b"-2", b"1"]),
    }
    known.add(raw)
    assert known.of(raw).tolist() == [[3, 2, -1], [-1, 3, -1], [3, 2, -1]]
    assert labels.mentions(known.of(raw), ASPECTS, labels.LABELS).tolist() == [[1, -1], [0, -1], [1, -1]]


def test_the_network_learns_from_all_that_rows_say_of_a_text(tokenizer, tmp_path):
    config = ModelConfig(
        task="aspect", fields=("text", "aspect"), labels=("negative", "positive", "not mentioned"), options={}, max_length=24,
        encoder=EncoderConfig(vocabulary_size=len(VOCABULARY), num_layers=1, num_heads=1, hidden_dim=4, intermediate_dim=8),
        text=TextConfig(lowercase=True, strip_accents=True),
    )  # fmt: skip
    known = labels.TextLabels(ASPECTS, config.labels)
    raw = {
        "text": np.array([b"good. bad.", b"a cafe.", b"good. bad."]),
        "aspect": np.array([b"a_x", b"a_y", b"a_y"]),
        "label": np.array([b"-2", b"-2", b"1"]),
    }
    known.add(raw)
    network = TextFilter(2, len(VOCABULARY), 4, 2, 0.0)
    task = Filtering(config, tokenizer, AspectOptions(aspects=ASPECTS), network, known)
    tensors = {name: tf.constant(values) for name, values in raw.items()}
    told = task.supervise(tensors, task.encode(tensors))
    assert told["row"].numpy().tolist() == [0, 0, 1, 2, 2]
    assert told["mentioned"].numpy().tolist() == [[1, -1], [1, -1], [0, -1], [1, -1], [1, -1]]
    # Of rows that are measured, each text passes once.
    lines = [",".join(value.decode() for value in row) for row in zip(*raw.values(), strict=True)]
    (tmp_path / "x.csv").write_text("\n".join([",".join(raw), *lines]) + "\n")
    table = open_table(str(tmp_path / "x.csv"), SourceConfig(), tuple(raw), keyed_by=2, split_by=TASK.split_by)
    measured, count = pipeline.measured_rows(task, table)
    (once,) = measured
    assert count == 2 and once["text"].numpy().tolist() == [b"good. bad.", b"a cafe."]
    assert task.measured(table) is task.measured(table)
    scorer = task.scorer(calibrates=True)
    scorer.update({name: values.numpy() for name, values in once.items()}, {"mentioned": np.array([[0.9, 0.1], [0.2, 0.1]])})
    figures = scorer.result().metrics
    assert figures["average_precision"] == figures["f1"] == 1
    assert figures["loss"] == pytest.approx(-(np.log(0.9) + np.log(0.8)) / 2)


def test_a_text_is_on_one_side_with_all_that_is_said_of_it(tmp_path):
    rows = [f"text {text},{aspect},1\n" for text in range(40) for aspect in "abc"]
    (tmp_path / "x.csv").write_text("text,aspect,label\n" + "".join(rows))
    columns = ("text", "aspect", "label")
    alike = splits.hashed(TextConfig(lowercase=True, strip_accents=True))
    table = open_table(str(tmp_path / "x.csv"), SourceConfig(), columns, keyed_by=2, split_by=TASK.split_by, alike=alike)
    sides = table.split(splits.set_aside(table.hashes("alike")[:, 0], 0.3))
    texts = [set(side.read(range(len(side)))["text"]) for side in sides]
    assert all(texts) and not texts[0] & texts[1]


def test_invalid_bytes_are_no_characters(split):
    (found,), _ = split("good\udcff. bad.")  # 0xff, as Python spells it
    assert [place for _, *place in found] == [[0, 5], [6, 10]]


def plainly(scores, lengths, row, texts, room, threshold):
    """`keep` in plain Python."""
    kept = []
    for text in range(texts):
        for question in range(scores.shape[1]):
            mine = [s for s in range(len(row)) if row[s] == text]
            good = [s for s in mine if threshold is None or scores[s, question] >= threshold]
            order = sorted(good, key=lambda s: (-scores[s, question], s)) if good else mine
            left, taken = room, []
            for s in order:
                if left > 0 and lengths[s]:
                    taken.append((s, min(lengths[s], left)))
                left -= lengths[s]
            kept.append(sorted(taken))
    return kept


@settings(max_examples=60)
@given(st.data())
def test_the_best_sentences_that_fit_are_kept(data):
    texts, questions = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 3))
    counts = data.draw(st.lists(st.integers(1, 6), min_size=texts, max_size=texts))
    row = np.repeat(np.arange(texts), counts).astype(np.int32)
    lengths = np.array(data.draw(st.lists(st.integers(0, 9), min_size=len(row), max_size=len(row))), np.int32)
    flat = st.lists(st.integers(0, 4), min_size=len(row) * questions, max_size=len(row) * questions)
    scores = np.array(data.draw(flat), np.float32).reshape(-1, questions)
    room, threshold = data.draw(st.integers(1, 20)), data.draw(st.sampled_from([None, 2.0, 5.0]))
    found = keep(tf.constant(scores), tf.constant(lengths), tf.constant(row), tf.constant(texts), tf.constant(room), threshold)
    pairs = zip(found.sentence.to_list(), found.tokens.to_list(), strict=True)
    assert [list(zip(s, t, strict=True)) for s, t in pairs] == plainly(scores, lengths, row, texts, room, threshold)


def test_what_belongs_to_kept_sentences():
    values = tf.ragged.constant([[1, 2], [3], [4, 5, 6]])
    found = keep(tf.constant([[1.0], [0.0], [2.0]]), tf.constant([2, 1, 3]), tf.constant([0, 0, 0]), tf.constant(1), 4, None)
    assert joined(values, found).to_list() == [[1, 4, 5, 6]]


@pytest.mark.parametrize(
    ("how", "expected"), [("head", [0, 1, 2]), ("tail", [2, 3, 4]), ("head_tail", [0, 1, 4]), ("random", None)]
)
def test_positional_filters(how, expected):
    row = tf.constant([0] * 5 + [1] * 50)
    scores = positional_scores(how, row, tf.constant(2))
    kept = keep(scores, tf.ones_like(row), row, tf.constant(2), tf.constant(3), None).sentence.to_list()
    again = positional_scores(how, row[5:] - 1, tf.constant(1))
    assert len(kept[1]) == 3 and (expected is None or kept[0] == expected)
    assert np.array_equal(scores[5:], again), "depends on the text alone"
    if how == "random":
        assert kept[1] != [5, 6, 7] and kept[1] != [52, 53, 54]


def test_words_weigh_what_texts_tell_of_them():
    mentioned = np.array([[1, -1], [1, 0], [0, -1]] * 20, np.int32)
    ids = [[3, 3, 4], [3, 5], [4, 5]] * 20
    weights = word_weights.counted([(ids[:30], mentioned[:30]), (ids[30:], mentioned[30:])], [[6], [7]], 9)
    # Piece 3 stands in 40 of the 40 texts that mention the first aspect and in none of the 20 that do not.
    assert (
        weights[3, 0] == pytest.approx(np.log(45 / 50) - np.log(5 / 30)) and weights[4, 0] < 0 and weights[8, 0] < weights[3, 0]
    )
    assert weights[6, 0] == weights[:, 0].max(), "the aspect's own name"
    assert not weights[:7, 1].any() and weights[7, 1] == 1, "nobody mentions the second, so that only its name counts"
    layer = word_weights.WordWeights(9, 2)
    layer.table.assign(weights)
    scores = layer.scores(tf.ragged.constant([[3, 4], []], dtype=tf.int32))
    assert np.allclose(scores, [weights[[3, 4]].mean(0), [0, 0]]) and not layer.trainable_weights


def test_sentences_with_the_terms_words():
    ids = tf.ragged.constant([[3, 4, 3], [5], [6]], dtype=tf.int32)
    terms = tf.ragged.constant([[3], [6, 7]], dtype=tf.int32)
    assert word_weights.shared(ids, tf.constant([0, 0, 1]), terms).numpy().tolist() == [[1], [0], [1]]
    # Piece 3, as "the", stands in three sentences and 4 in one.
    ids = tf.ragged.constant([[3, 3, 3, 5], [3], [3, 4]], dtype=tf.int32)
    scores = word_weights.shared(ids, tf.constant([0, 0, 0]), tf.ragged.constant([[3, 4]], dtype=tf.int32))
    assert np.allclose(scores, [[1 / 3], [1 / 3], [4 / 3]])


@pytest.fixture(scope="module")
def text_filter():
    layer = TextFilter(num_aspects=2, vocabulary_size=20, hidden_dim=8, units=4, dropout=0.5)
    layer.embedding.trainable = False
    return layer


def test_padding_changes_no_relevance(text_filter):
    ids = tf.constant([[5, 6, 7, 0, 0], [8, 9, 10, 11, 12]])
    mask = tf.constant([[1, 1, 1, 0, 0], [1] * 5])
    both = text_filter(ids, mask)
    alone = text_filter(ids[:1, :3], mask[:1, :3])
    assert both.shape == (2, 2) and np.allclose(both[0], alone[0], atol=1e-6)
    assert "embeddings" not in [weight.name for weight in text_filter.trainable_weights]


def test_a_text_is_learnt_by_its_sentences():
    logits = tf.constant([[2.0, -1.0], [-3.0, 0.5], [1.0, 1.0]])
    # Texts 4 and 7; of text 4, the second is unknown.
    known = {"row": tf.constant([4, 4, 7]), "mentioned": tf.constant([[1, -1], [1, -1], [0, 1]])}
    text = np.log(np.exp(logits[:2, 0].numpy()).sum())
    expected = np.mean([np.log1p(np.exp(-text)), np.log1p(np.exp(1.0)), np.log1p(np.exp(-1.0))])
    assert float(mention_loss(known, logits, "log_sum_exp")) == pytest.approx(expected, abs=1e-5)
    row = tf.constant([0, 0, 1])
    assert text_logits(logits, row, 2, "max").numpy().tolist() == [[2, 0.5], [1, 1]]
    weights = np.exp(logits[:2]) / np.exp(logits[:2]).sum(0)
    assert np.allclose(text_logits(logits, row, 2, "attention"), [np.sum(weights * logits[:2], 0), [1, 1]], atol=1e-6)


def test_sentences_that_bear_an_aspect_are_told_by_their_texts():
    bearing = BearingSentences()
    shares = [1, 0, 0.5]
    for share in shares:
        for _ in range(2):  # the same text again says nothing new
            bearing.add(["good film.", "a cafe.", f"{share}."], np.array([1, 0]), np.array([[share, 0], [1, 0], [0, 0]]))
    assert bearing.recall() is None, "any of three may bear the first aspect, and no text has the second"
    bearing.add(["a cafe.", "0.5.", "0.5."], np.array([0, 0]), np.array([[0, 0]] * 3))
    assert bearing.recall() == pytest.approx(sum(shares) / 3), "in the third text it can be the film only, and so in all"
    one = BearingSentences()
    one.add(["good film."], np.array([1]), np.array([[1]]))
    assert one.recall() is None
    one.add(["a cafe.", "good film.", "good film."], np.array([1]), np.array([[1]] * 3))
    one.add(["a cafe."], np.array([0]), np.array([[1]]))
    assert one.recall() == 1


def test_an_aspect_attends_to_the_text():
    layer = AspectAttention(4)
    hidden = tf.constant(np.random.default_rng(0).normal(size=(2, 6, 4)).astype(np.float32))
    segments, mask = tf.constant([[0, 0, 0, 0, 1, 1], [0, 0, 1, 1, 0, 0]]), tf.constant([[1] * 6, [1, 1, 1, 1, 0, 0]])
    both = layer(hidden, segments, mask)
    assert both.shape == (2, 8) and np.allclose(both[:, :4], hidden[:, 0])
    assert np.allclose(both[1:], layer(hidden[1:, :4], segments[1:, :4], mask[1:, :4]), atol=1e-6)
    span = hidden[1, :2].numpy()  # the text alone is looked at
    assert np.all(both[1, 4:] <= span.max(0) + 1e-6) and np.all(both[1, 4:] >= span.min(0) - 1e-6)


ASPECTS = (Aspect(name="a_x", coarse="a", readable="x"), Aspect(name="a_y", coarse="a", readable="y"), names.aspect_of("b"))


def test_labels_as_numbers():
    raw = {name: np.array(values) for name, values in zip(labels.gold_columns(ASPECTS, True), [[b"1", b"-2"]] * 3, strict=True)}
    found = labels.numbers(raw, ASPECTS, labels.LABELS, wide=True)
    assert found.tolist() == [[2, 2, 2], [3, 3, 3]] and labels.coarse_aspects(ASPECTS) == ("a", "b")
    assert labels.mentions(found, ASPECTS, labels.LABELS).tolist() == [[1, 1], [0, 0]]
    long = {"aspect": np.array([b"a_y", b"b"]), "label": np.array([b"positive", b"-2"])}
    found = labels.numbers(long, ASPECTS, labels.LABELS, wide=False)
    assert found.tolist() == [[-1, 2, -1], [-1, -1, 3]]
    assert labels.mentions(found, ASPECTS, labels.LABELS).tolist() == [[1, -1], [-1, 0]]
    assert labels.numbers(long, (), labels.LABELS, wide=False).tolist() == [[2], [3]]


def test_names(tmp_path):
    assert names.aspect_of("service_parking") == Aspect(name="service_parking", coarse="service", readable="service parking")
    file = tmp_path / "names.txt"
    file.write_text("\ufeffa_x\tthe x\n\nb\tbee\tcoarse b\nc_d\n", encoding="utf-8")
    expected = (("a_x", "a", "the x"), ("b", "coarse b", "bee"), ("c_d", "c", "c d"))
    assert tuple((a.name, a.coarse, a.readable) for a in names.read_names(str(file))) == expected
    assert [a.name for a in names.named(["b", "a_x"], str(file))] == ["b", "a_x"]
    with pytest.raises(DataError, match="no line for aspect 'e'; it lists a_x, b, c_d"):
        names.named(["b", "e"], str(file))
    for text, message in (
        ("a\tb\tc\td\n", ":1: expected a name and, after tabs"),
        ("a\t\n", ":1: expected"),
        ("a\nb\na\n", ":3: aspect 'a' is listed twice"),
        ("\n", "no aspect is listed"),
        ("a\tx\nb\tx\n", "aspects 'a' and 'b' are both read or called 'x'"),
        ("a\tx\nx\ty\n", "aspects 'x' and 'a' are both read or called 'x'"),
    ):
        file.write_text(text)
        with pytest.raises(DataError, match=message):
            names.read_names(str(file))
    with pytest.raises(DataError, match="not readable"):
        names.read_names(str(tmp_path / "none"))


def test_three_lines(tmp_path):
    file = tmp_path / "x.seg"
    file.write_text("The $T$ is good .\nplot line\n1\n\na $T$, $T$\nfilm\nNegative\n", encoding="utf-8")
    config = SourceConfig(text_columns=("text", "aspect"))
    table = open_table(str(file), config, ("text", "aspect", "label"), keyed_by=2)
    columns = {name: [value.decode() for value in column] for name, column in table.read([0, 1]).items()}
    assert columns == {
        "text": ["The plot line is good .", "a film, film"],
        "aspect": ["plot line", "film"],
        "label": ["1", "Negative"],
    }
    assert [labels.label_of(label) for label in ("Positive", "NEUTRAL", " negative", "-1")] == [
        "positive",
        "neutral",
        "negative",
        "negative",
    ]
    assert names.aspect_of("Food#Taste") == Aspect(name="Food#Taste", readable="Food Taste", coarse="Food")
    assert table.where(1) == f"{file}:5"
    file.with_name("y.seg").write_text("The $T$\nfilm\n1\n", encoding="utf-8")
    for text, message in (
        ("The film\nfilm\n1\n", r":1: expected a text with \$T\$"),
        ("a $T$\nfilm\n1\nb $T$\nx\n", ":4: 2 lines, expected three"),
        ("a $T$\n\nfilm\n", ":1: a blank line, expected"),
    ):
        file.write_text(text)
        with pytest.raises(DataError, match=message):
            open_table(str(file), config, ("text", "aspect", "label"), keyed_by=2)
    assert open_table(str(file.with_name("y.seg")), SourceConfig(), ("text",), keyed_by=1).read([0])["text"] == [b"The film"]
    with pytest.raises(UsageError, match="terms have a text, a term and a label .--text_columns=text,aspect"):
        open_table(str(file), config, ("text", "aspect", "label", "id"), keyed_by=2)
    assert list(three_lines.records(iter([]))) == []


def test_a_mention_counts_whatever_other_rows_say():
    said = labels.TextLabels(ASPECTS, labels.LABELS)
    rows = [(b"t", b"a_x", b"1"), (b"t", b"a_x", b"-2"), (b"t", b"a_y", b"-2"), (b"t", b"a_y", b"-1"), (b"u", b"a_x", b"-2")]
    columns = dict(zip(("text", "aspect", "label"), map(np.array, zip(*rows, strict=True)), strict=True))
    said.add({name: values.astype(object) for name, values in columns.items()})
    assert said.of({"text": np.array([b"t", b"u"], object)}).tolist() == [[2, 0, -1], [3, -1, -1]]


def test_audit():
    audit = AspectAudit("f", ASPECTS, wide=True, allowed=None)
    audit(("t", "1", "-2", "0"))
    assert audit.labels == ("neutral", "positive", "not mentioned")
    with pytest.raises(ValueError, match="aspect 'b': label '5', allowed are -1 or negative, 0 or neutral, 1 or positive, -2"):
        audit(("t", "1", "-2", "5"))
    with pytest.raises(ValueError, match="aspect 'a_y': label '', allowed"):
        audit(("t", "1", "", "5"))
    with pytest.raises(
        ValueError, match="label 'negative' is not among the model's labels, which come from .* --labels .*: positive"
    ):
        AspectAudit("f", ASPECTS, wide=True, allowed=["positive"])(("t", "1", "-1", "1"))
    rows = AspectAudit("f", ASPECTS, wide=False, allowed=None)
    for values, message in (
        (("t", " ", "1"), "the aspect is empty"),
        (("t", "\u200b", "1"), "the aspect is empty"),
        (("t", "c", "1"), "'c' is not among those of --aspect_names: a_x"),
    ):
        with pytest.raises(ValueError, match=message):
            rows(values)
    rows(("t", "b", "1"))
    with pytest.raises(DataError, match=r"f: one label only \(positive\)"):
        rows.check_learnable()
    silent = AspectAudit("f", ASPECTS, wide=True, allowed=None)
    silent(("t", "-2", "-2", "-2"))
    with pytest.raises(DataError, match="f: no aspect is mentioned in any row"):
        silent.check_learnable()
    with pytest.raises(DataError, match="f: no aspect is mentioned in any row"):  # whatever labels are allowed
        given = AspectAudit("f", ASPECTS, wide=True, allowed=labels.LABELS)
        given(("t", "-2", "-2", "-2"))
        given.check_learnable()
    terms = AspectAudit("f", (), wide=False, allowed=None)
    for value in ("1", "-2"):
        terms(("t", "c", value))
    assert terms.labels == ("positive", "not mentioned")
    assert "seem not to be terms occurring in the texts" in terms.check_learnable()[0]
    for learns in (False, True):
        everywhere = AspectAudit("f", ASPECTS, wide=True, allowed=None, learns=learns)
        everywhere(("t", "1", "-2", "-2"))
        everywhere(("t", "-2", "-1", "-2"))
        said = " ".join(everywhere.check_learnable())
        assert ("nearly all rows mention 'a', so --filter=tfn" in said) == learns
    with pytest.raises(DataError, match="--labels: a label is listed twice: positive, positive"):
        AspectAudit("f", ASPECTS, wide=True, allowed=["1", "positive"])
    with pytest.raises(DataError, match="--labels: 'x', allowed are -1 or negative"):
        AspectAudit("f", ASPECTS, wide=True, allowed=["x"])
    numbered = AspectAudit("f", ASPECTS, wide=True, allowed=["1", "-2"])
    numbered(("t", "1", "-2", "1"))
    assert numbered.labels == ("positive", "not mentioned")
    positive = AspectAudit("f", ASPECTS, wide=True, allowed=labels.LABELS, learns=True)
    positive(("t", "1", "-1", "0"))
    with pytest.raises(UsageError, match="no row is labelled -2 .* though --labels lists it"):
        positive.check_learnable()
    rows = AspectAudit("f", ASPECTS, wide=False, allowed=None, learns=True)
    for aspect, value in (("a_x", "1"), ("a_y", "-2"), ("b", "-2")):
        rows(("t", aspect, value))
    said = " ".join(rows.check_learnable())
    assert "nearly all rows mention 'a', so" in said and "'b'" not in said.split("so that")[0].split("mention")[-1]


def test_figures():
    gold = np.array([[3, 2], [0, 3], [2, -1], [1, 3]])
    found = np.array([[3, 2], [0, 0], [0, 1], [1, 3]])
    report = metrics.report(gold, found, np.full(gold.shape, 0.5), ["a", "b"], labels.LABELS)
    # Of "a": negative 2/3, neutral 1, positive 0, not mentioned 1; of "b": negative 0, positive 1, not mentioned 2/3.
    a, b = report["per_aspect"]["a"], report["per_aspect"]["b"]
    assert a["macro_f1"] == pytest.approx((2 / 3 + 1 + 0 + 1) / 4) and b["macro_f1"] == pytest.approx((0 + 1 + 2 / 3) / 3)
    assert a["macro_f1_without_neutral"] == pytest.approx((2 / 3 + 0 + 1) / 3) and b["mentioned_f1"] == pytest.approx(2 / 3)
    assert report["macro_f1"] == pytest.approx((a["macro_f1"] + b["macro_f1"]) / 2) and report["loss"] == pytest.approx(
        np.log(2)
    )
    assert (a["rows"], a["mentioned"], b["rows"], b["mentioned"]) == (4, 3, 3, 1) and np.sum(report["confusion_matrix"]) == 7
    assert report["mentioned"] == 4
    json.dumps(report)
    lines = metrics.table(report).splitlines()
    assert "no neutral" in lines[0] and lines[1].startswith("a ") and lines[3].startswith("mean ")
    terms = metrics.report(gold[:, :1], found[:, :1], np.ones((4, 1)), [], labels.LABELS)
    assert not terms["per_aspect"] and metrics.table(terms).splitlines()[1].startswith("all ")
    three = metrics.report(gold[1:3, :1], found[1:3, :1], np.ones((2, 1)), [], labels.LABELS[:3])
    assert "mentioned_f1" not in three and "macro_f1_without_neutral" in three


def test_what_is_absent_is_in_no_mean():
    """Of "b" nobody says anything, and of "c" neutral things alone; all is told rightly."""
    gold = np.array([[3, 3, 1], [2, 3, 1]])
    report = metrics.report(gold, gold, np.ones(gold.shape), ["a", "b", "c"], labels.LABELS)
    assert all(report[name] == 1 for name in metrics.AVERAGED), report
    assert "mentioned_f1" not in report["per_aspect"]["b"] and "macro_f1_without_neutral" not in report["per_aspect"]["c"]
    lines = metrics.table(report).splitlines()
    assert "       -" in lines[2] and "       -" in lines[3] and "       -" not in lines[4]
    silent = metrics.report(gold[:, 1:2], gold[:, 1:2], np.ones((2, 1)), ["b"], labels.LABELS)
    assert "mentioned_f1" not in silent and silent["macro_f1"] == 1


def test_a_panel_shows_what_was_read_of_very_many_sentences():
    count = SENTENCES + 20
    text = "".join(f"s{number:02}." for number in range(count))
    starts = 4 * np.arange(count)[None]
    read = np.zeros((1, count, 1))
    read[0, -1] = 1
    predicted = {
        "probabilities": np.eye(4)[[[3, 3, 3]]],
        "sentence_count": np.array([count]),
        "sentence_start": starts,
        "sentence_end": starts + 4,
        "sentence_relevance": np.linspace(1, 0, count)[None, :, None],
        "sentence_read": read,
    }
    config = ModelConfig(
        task="aspect", fields=("text",), labels=labels.LABELS, options={}, max_length=24,
        encoder=EncoderConfig(vocabulary_size=9, num_layers=1, num_heads=1, hidden_dim=4, intermediate_dim=8),
        text=TextConfig(lowercase=True, strip_accents=True),
    )  # fmt: skip
    aspects = tuple(Aspect(name=name, coarse="a|b", readable=name) for name in "xyz")
    scorer = AspectScorer(config, aspects, wide=True)
    gold = {name: np.array([b"-2"]) for name in labels.gold_columns(aspects, True)}
    scorer.update({"text": np.array([text.encode()]), **gold}, predicted)
    panel = scorer.result().texts()["sentences"]
    assert f"| s{count - 1}. | 0.000 ● |" in panel and "| s00. | 1.000 |" in panel and f"| s{SENTENCES}. |" not in panel
    assert "(and 20 more)" in panel.replace("\\", "") and panel.count("\n| s") - panel.count("| sentence") == SENTENCES


def test_a_filter_is_kept_by_its_loss_where_dev_has_no_contrast(tokenizer):
    config = ModelConfig(
        task="aspect", fields=("text",), labels=("positive", "not mentioned"), options={}, max_length=24,
        encoder=EncoderConfig(vocabulary_size=len(VOCABULARY), num_layers=1, num_heads=1, hidden_dim=4, intermediate_dim=8),
        text=TextConfig(lowercase=True, strip_accents=True),
    )  # fmt: skip
    task = Filtering(config, tokenizer, AspectOptions(aspects=ASPECTS), TextFilter(2, len(VOCABULARY), 4, 2, 0.0), None)
    ranks = []
    for values, score in (((b"1", b"-2"), 0.5), ((b"1", b"1"), 0.6), ((b"1", b"1"), 0.5)):
        columns = {name: np.array(values) for name in labels.gold_columns(ASPECTS, True)}
        scorer = task.scorer(calibrates=True)
        scorer.update({"text": np.array([b"x", b"y"]), **columns}, {"mentioned": np.full((2, 2), score)})
        report = scorer.result()
        scalars, warned = report.scalars(), "selecting the filter by its loss" in " ".join(report.warnings())
        assert task.best == ("average_precision", "max") and ("average_precision" in scalars) != warned
        ranks.append(Figures(per_epoch=1, step=1, score=scalars.get(task.best[0], -1.0), metrics=report.metrics).rank)
    assert scalars == {"loss": pytest.approx(np.log(2))} and ranks == sorted(ranks, reverse=True)


def test_common_words_of_a_name_weigh_what_they_tell():
    mentioned = np.array([[1], [0]] * 20, np.int32)
    weights = word_weights.counted([([[3, 5], [3]] * 20, mentioned)], [[3, 6]], 9)  # "of food", where all texts have "of"
    assert weights[6, 0] == weights[:, 0].max() and weights[3, 0] == pytest.approx(0, abs=1e-6)


def test_an_input_holds_an_aspect_and_some_text():
    with pytest.raises(UsageError, match="--max_length=15: an aspect and the text read for it need 16 tokens or more"):
        AspectOptions().check(15)
