"""Plain text into pre-training examples: reading, cutting, pairs, masks, shards, and all of it by the seed."""

import collections
import dataclasses
import gzip
import itertools
import re
import types
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import witness_text
from conftest import VOCABULARY
from hypothesis import given
from hypothesis import strategies as st

from kbert.data.tokenizer import Tokenizer
from kbert.errors import DataError, UsageError
from kbert.permutation import seed_of
from kbert.pretrain_config import PretrainConfig
from kbert.pretraining import corpus, masking, records, sources
from kbert.pretraining import tokens as token_files
from kbert.pretraining.batches import FIELDS, PretrainingBatches
from kbert.pretraining.cutting import ALONE, NEXT, RANDOM, SWAPPED, Cut
from kbert.pretraining.examples import Arrays, TextExamples, warn
from kbert.pretraining.masking import Masking, Special
from kbert.pretraining.randomness import heads, keys, uniforms
from kbert.pretraining.sentences import sentences
from kbert.tasks.pretrain.options import PretrainOptions
from kbert.train import batching

WORDS = ["good", "bad", "film", "fine", "dull", "a", "the", "very", "plot", "unlikely", "cafe", "is", "电影", "很", "好"]
IDS = {token: i for i, token in enumerate(VOCABULARY)}


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer(VOCABULARY, lowercase=True, strip_accents=True)


def text(documents: int, seed: int = 0, sentence: tuple[int, int] = (2, 12), most: int = 12) -> str:
    """Documents of 1 to `most` sentences, a sentence a line."""
    rng = np.random.default_rng(seed)
    lines = []
    for _ in range(documents):
        lines += [" ".join(rng.choice(WORDS, rng.integers(*sentence))) for _ in range(rng.integers(1, most + 1))]
        lines.append("")
    return "\n".join(lines) + "\n"


def read(path, tokenizer, layout="sentences", words=None, **more) -> token_files.Tokens:
    with ThreadPoolExecutor(2) as executor:
        encode = token_files.Encode(tokenizer, words)
        return token_files.tokenized(corpus.blocks(str(path), layout, **more), corpus.files(str(path)), encode, executor, 2)


@pytest.fixture(scope="module")
def many(tmp_path_factory, tokenizer) -> token_files.Tokens:
    path = tmp_path_factory.mktemp("corpus") / "text.txt"
    path.write_text(text(400), encoding="utf-8")
    return read(path, tokenizer)


def spelt(tokens: token_files.Tokens) -> list[list[str]]:
    """The documents' sentences as pieces."""
    ids = token_files.pieces(np.asarray(tokens.ids))
    found = []
    for first, last in tokens.documents[["first", "last"]].tolist():
        ends = tokens.ends[first : last + 1].tolist()
        found.append([" ".join(VOCABULARY[i] for i in ids[a:b]) for a, b in itertools.pairwise(ends)])
    return found


class TestCorpus:
    def test_documents_end_at_blank_lines_and_at_the_ends_of_files(self, tmp_path, tokenizer, monkeypatch):
        (tmp_path / "a.txt").write_bytes("\ufeff\n\ngood film\r\n  \r\nbad plot\nfine".encode())
        with gzip.open(tmp_path / "b.txt.gz", "wb") as file:
            file.write(b"the plot\n\x00\nvery dull\n\n\n")
        found = read(tmp_path / "*.txt*", tokenizer)
        assert spelt(found) == [["good film"], ["bad plot", "fine"], ["the plot", "very dull"]]  # NUL has no token
        assert [found.files[f][len(str(tmp_path)) + 1 :] for f in found.documents["file"]] == ["a.txt", "a.txt", "b.txt.gz"]
        assert found.documents["line"].tolist() == [3, 5, 1]
        monkeypatch.setattr(corpus, "BLOCK", 1)
        assert spelt(read(tmp_path / "*.txt*", tokenizer)) == spelt(found)
        assert read(tmp_path / "*.txt*", tokenizer).digest == found.digest

    def test_a_document_whose_first_block_has_no_token_is_not_joined_to_the_one_before(self, tmp_path, tokenizer, monkeypatch):
        (tmp_path / "a.txt").write_bytes("good\n\n\u200b\u200b\nbad\n\n\u200b\n\nfine\n".encode())
        monkeypatch.setattr(corpus, "BLOCK", 1)
        assert spelt(read(tmp_path / "a.txt", tokenizer)) == [["good"], ["bad"], ["fine"]]

    def test_a_document_a_line(self, tmp_path, tokenizer):
        (tmp_path / "a.txt").write_text("Good film. Very dull plot!\n\n电影很好。很好！好\n", encoding="utf-8")
        assert spelt(read(tmp_path / "a.txt", tokenizer, "documents")) == [
            ["good film .", "very dull plot !"],
            ["电 影 很 好 [UNK]", "很 好 [UNK]", "好"],
        ]

    def test_mistakes_are_named(self, tmp_path, tokenizer, monkeypatch):
        bad = tmp_path / "bad.txt"
        cases = [
            (
                b"good\n\xc4\xe3\xba\xc3\n",
                "bad.txt:2: bytes c4 e3 ba c3 are not utf-8; name the file's encoding with --encoding=",
            ),
            (b"\n \n", "no text"),
            (b"", "no text"),
            ("\u200b\n".encode(), "the text has no token at all"),
        ]
        for content, message in cases:
            bad.write_bytes(content)
            with pytest.raises(DataError, match=message):
                read(bad, tokenizer)
        monkeypatch.setattr(corpus, "LONGEST_LINE", 10)
        bad.write_bytes(b"good\n" + b"x" * 11)
        with pytest.raises(DataError, match="bad.txt:2: a line of more than 10 bytes; is the file text?"):
            read(bad, tokenizer)
        (tmp_path / "no.txt.gz").write_bytes(b"no gzip")
        for source, message in {
            "no.txt.gz": "no.txt.gz: not readable as gzip",
            "none-*.txt": "no such file",
            ".": r"is a directory; name its files, for example .*/\*.txt",
        }.items():
            with pytest.raises(DataError, match=message):
                read(tmp_path / source, tokenizer)
        with pytest.raises(UsageError, match="--encoding=x: no such encoding"):
            read(bad, tokenizer, encoding="x")

    def test_another_encoding(self, tmp_path, tokenizer):
        (tmp_path / "a.txt").write_bytes("电影\n很好\n".encode("gb18030"))
        assert spelt(read(tmp_path / "a.txt", tokenizer, encoding="gb18030")) == [["电 影", "很 好"]]

    def test_a_split_keeps_equal_documents_together(self, tmp_path, tokenizer):
        (tmp_path / "a.txt").write_text(text(60, 1) * 2, encoding="utf-8")
        tokens = read(tmp_path / "a.txt", tokenizer)
        kept, held = tokens.split(0.3, seed=0)
        ours, theirs = ({tuple(d) for d in spelt(side)} for side in (kept, held))
        assert not ours & theirs and len(kept.documents) + len(held.documents) == 120
        assert 10 < len(held.documents) < 60
        assert {tuple(d) for d in spelt(tokens.split(0.3, seed=1)[1])} != theirs


class TestSentences:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("他来了。“走吧！”她说。", ["他来了。", "“走吧！”", "她说。"]),
            ("好!他说……然后呢？", ["好!", "他说……", "然后呢？"]),
            (
                "Mr. Smith went to Washington. It was 3.14 p.m. there.",
                ["Mr. Smith went to Washington.", "It was 3.14 p.m. there."],
            ),
            ('He said "Stop!" Then J. R. R. left... Why?', ['He said "Stop!"', "Then J. R. R. left...", "Why?"]),
            ("no end", ["no end"]),
            ("  ", []),
        ],
    )
    def test_cases(self, text, expected):
        assert sentences(text) == expected

    @given(st.text(st.sampled_from("ab A。！？.!?…”\"') \n中")))
    def test_nothing_is_lost(self, text):
        found = sentences(text)
        assert "".join("".join(found).split()) == "".join(text.split()) and all(s.strip() == s and s for s in found)


class TestRandomness:
    def test_uniform_and_independent_of_company(self):
        key = keys(3, 1, np.arange(2000))
        drawn = uniforms(key, 5, 50)
        assert abs(drawn.mean() - 0.5) < 0.005 and abs(drawn.var() - 1 / 12) < 0.002
        assert np.abs(np.corrcoef(drawn[:, :4].T) - np.eye(4)).max() < 0.1
        np.testing.assert_array_equal(drawn[7:9], uniforms(keys(3, 1, np.array([7, 8])), 5, 50))
        for other in (keys(4, 1, np.arange(2000)), keys(3, 2, np.arange(2000)), keys(1, 3, np.arange(2000))):
            assert not np.isin(uniforms(other, 5, 3), drawn).any()
        assert not np.isin(uniforms(key, 6, 3), drawn).any()

    def test_heads_are_binomial(self):
        for tosses in (1, 63, 64, 65, 300):
            found = heads(keys(0, np.arange(4000)), 1, np.full(4000, tosses))
            assert found.min() >= 0 and found.max() <= tosses
            assert abs(found.mean() / tosses - 0.5) < 0.03 and abs(found.var() * 4 / tosses - 1) < 0.15
        assert heads(keys(0, np.arange(3)), 1, np.array([0, 0, 0])).tolist() == [0, 0, 0]


class TestExamples:
    @pytest.mark.parametrize("objective", ["mlm+nsp", "mlm", "mlm+sop"])
    def test_all_text_stands_in_examples_and_nothing_crosses_documents(self, many, objective):
        made = TextExamples(many, VOCABULARY, Cut(objective, 32), Masking(), 0)
        record = np.asarray(made.records)
        covered = np.zeros(len(many.ids), int)
        for start, length, length_b, _, kind, document in record.tolist():
            covered[start : start + length + length_b] += 1
            first, last = many.documents[["first", "last"]][document].tolist()
            assert many.ends[first] <= start and start + length + length_b <= many.ends[last]
            assert (length_b > 0) == (kind in (NEXT, SWAPPED))
            if objective != "mlm":
                assert {start, start + length} <= set(many.ends.tolist())  # whole sentences
        assert (covered == 1).all()
        kinds = {"mlm+nsp": {NEXT, RANDOM}, "mlm": {ALONE}, "mlm+sop": {NEXT, SWAPPED, ALONE}}[objective]
        assert set(record["kind"].tolist()) == kinds
        if objective == "mlm":
            assert record["length"].max() <= 30

    def test_pairs_are_what_their_labels_say(self, many):
        for objective, moved in (("mlm+nsp", RANDOM), ("mlm+sop", SWAPPED)):
            made = TextExamples(many, VOCABULARY, Cut(objective, 64), Masking(most=1), 0)
            arrays = restored(made.read(np.arange(len(made)), 0))
            text = token_files.pieces(np.asarray(many.ids))
            for row, record in enumerate(made.records.tolist()):
                start, length, length_b, wanted, kind, _ = record
                ids = arrays.token_ids[row, : arrays.lengths[row]]
                ends = np.flatnonzero(ids == IDS["[SEP]"])
                a, b = ids[1 : ends[0]], ids[ends[0] + 1 : ends[-1]]
                assert arrays.pair[row] == {ALONE: -1, NEXT: 0, moved: 1}[kind]
                assert ids[0] == IDS["[CLS]"] and len(ends) == (1 if kind == ALONE else 2) and len(ids) <= 64
                segments = arrays.segment_ids[row, : len(ids)]
                assert segments.tolist() == [0] * (ends[0] + 1) + [1] * (len(ids) - ends[0] - 1)
                own, following = text[start : start + length], text[start + length : start + length + length_b]
                if kind == SWAPPED:
                    own, following = following, own
                if len(own) + len(following) + wanted <= 61 - 12:  # short enough not to be cut, whatever the partner
                    assert a.tolist() == own.tolist()
                    assert kind == RANDOM or b.tolist() == following.tolist()
                assert contains(own, a) and (kind == RANDOM or contains(following, b))

    def test_a_partner_is_another_document_and_begins_anywhere(self, many):
        made = TextExamples(many, VOCABULARY, Cut("mlm+nsp", 32), Masking(), 0)
        record = made.records[made.records["kind"] == RANDOM]
        starts = set()
        for epoch in range(5):
            key = keys(0, epoch, record["start"])
            start, length = made._partners(record, key)
            documents = np.searchsorted(many.ends[many.documents["last"]], start, side="right")
            assert (documents != record["document"]).all() and (length >= 1).all()
            ends = many.ends[many.documents["last"]].astype(np.int64)
            assert (start + length <= ends[documents]).all()
            assert np.isin(start + length, many.ends).all() and np.isin(start, many.ends).all()
            enough = (length >= record["wanted"]) | (start + length == ends[documents])
            assert enough.all()
            starts |= set(start.tolist())
        assert len(starts) > 0.5 * (len(many.ends) - 1)

    def test_two_documents_give_each_other(self, tmp_path, tokenizer):
        (tmp_path / "a.txt").write_text("good\nbad\ngood\n\nfilm\nplot\n", encoding="utf-8")
        made = TextExamples(read(tmp_path / "a.txt", tokenizer), VOCABULARY, Cut("mlm+nsp", 16, 0.0), Masking(), 0)
        for epoch in range(20):
            arrays = restored(made.read(np.arange(len(made)), epoch))
            for ids, pair in zip(arrays.token_ids, arrays.pair, strict=True):
                first = {"good", "bad"} & {VOCABULARY[i] for i in ids}
                assert bool(first and {"film", "plot"} & {VOCABULARY[i] for i in ids}) == (pair == 1)

    def test_what_has_no_pairs_is_said(self, tmp_path, tokenizer):
        path = tmp_path / "a.txt"
        path.write_text("good film\n\nbad plot\n\n", encoding="utf-8")
        for objective in ("mlm+nsp", "mlm+sop"):
            with pytest.raises(DataError, match=r"all 2 have one; --objective=mlm needs none"):
                TextExamples(read(path, tokenizer), VOCABULARY, Cut(objective, 16), Masking(), 0)
        assert len(TextExamples(read(path, tokenizer), VOCABULARY, Cut("mlm", 16), Masking(), 0)) == 2
        path.write_text("good film\nbad plot\n", encoding="utf-8")
        with pytest.raises(DataError, match="there is only one document; are blank lines missing between documents"):
            TextExamples(read(path, tokenizer), VOCABULARY, Cut("mlm+nsp", 16), Masking(), 0)
        assert len(TextExamples(read(path, tokenizer), VOCABULARY, Cut("mlm+sop", 16), Masking(), 0)) == 1

    def test_frequencies_are_those_of_what_is_learnt(self, many, tokenizer, monkeypatch):
        monkeypatch.setattr(token_files, "IDS_AT_ONCE", 100)
        monkeypatch.setattr(token_files, "DOCUMENTS_AT_ONCE", 7)
        whole = np.zeros(len(VOCABULARY), np.int64)
        for side in many.split(0.3, 1):
            made = TextExamples(side, VOCABULARY, Cut("mlm", 32), Masking(), 0)
            counts = collections.Counter(" ".join(itertools.chain(*spelt(side))).split())
            assert made.frequencies().tolist() == [counts[t] if t != "[UNK]" else 0 for t in VOCABULARY]
            whole += made.frequencies()
        assert TextExamples(many, VOCABULARY, Cut("mlm", 32), Masking(), 0).frequencies().tolist() == whole.tolist()

    def test_what_can_hardly_give_what_is_asked_for_is_said(self, tmp_path, tokenizer, caplog):
        path = tmp_path / "a.txt"
        path.write_text("good film\n\n" * 20 + "good\nbad\n", encoding="utf-8")
        one = read(path, tokenizer)
        for objective, said in (("mlm", ""), ("mlm+nsp", "20 of 21 documents have one sentence, which has no next one")):
            caplog.clear()
            warn(one, VOCABULARY, Cut(objective, 16), Masking())
            assert said in caplog.text if said else not caplog.text
        path.write_text("电影很好\n电影好好\n", encoding="utf-8")
        for words, unit, said in ((None, "word", True), (None, "piece", False), (lambda text: [text], "word", False)):
            caplog.clear()
            warn(read(path, tokenizer, words=words), VOCABULARY, Cut("mlm", 16), Masking(unit=unit))
            assert "are [UNK]" not in caplog.text
            message = "--mask_unit=word: without --segmenter (jieba, or your own) each Chinese character, "
            assert (message in caplog.text) == said
        path.write_text("Good film\nbad Plot\n", encoding="utf-8")
        warn(read(path, Tokenizer(VOCABULARY, lowercase=False, strip_accents=False)), VOCABULARY, Cut("mlm", 16), Masking())
        assert (
            "50 % of the tokens are [UNK]: is the vocabulary of another language, or of lowercased text (--low" in caplog.text
        )

    def test_an_example_is_a_function_of_seed_and_epoch(self, many):
        made = TextExamples(many, VOCABULARY, Cut("mlm+nsp", 32), Masking(), 0)
        rows = np.array([5, 17, 17, 3])
        together, alone = made.read(rows, 2), [made.read(np.array([row]), 2) for row in rows]
        for i, one in enumerate(alone):
            n, p = one.lengths[0], one.counts[0]
            np.testing.assert_array_equal(together.token_ids[i, :n], one.token_ids[0])
            np.testing.assert_array_equal(together.positions[i, :p], one.positions[0])
            np.testing.assert_array_equal(together.labels[i, :p], one.labels[0])
        mixed = made.read(rows, np.array([2, 2, 3, 2]))
        assert (mixed.token_ids[1] == together.token_ids[1]).all() and mixed.token_ids[2].tolist() != together.token_ids[
            2
        ].tolist()
        other = TextExamples(many, VOCABULARY, Cut("mlm+nsp", 32), Masking(), 1)
        assert other.records.tolist() != made.records.tolist()

    def test_pairs_come_out_as_googles_code_makes_them(self, tmp_path, tokenizer):
        """Lengths, shares of random partners, sentences' use: means over many documents, against the reference itself."""
        (tmp_path / "a.txt").write_text(text(1500, 5), encoding="utf-8")
        tokens = read(tmp_path / "a.txt", tokenizer)
        documents = [[sentence.split() for sentence in d] for d in spelt(tokens)]
        made = TextExamples(tokens, VOCABULARY, Cut("mlm+nsp", 48), Masking(most=8), 0)
        ours = restored(made.read(np.arange(len(made)), 0))
        rng, theirs = google_data().random.Random(1), []
        for i in range(len(documents)):
            theirs += google_data().create_instances_from_document(documents, i, 48, 0.1, 0.15, 8, VOCABULARY, rng)
        assert abs(len(made) / len(theirs) - 1) < 0.02
        for name, mine, reference in [
            ("length", ours.lengths, [len(x.tokens) for x in theirs]),
            ("first segment", (ours.segment_ids == 0).sum(1) - 48 + ours.lengths, [x.segment_ids.count(0) for x in theirs]),
            ("random", ours.pair, [x.is_random_next for x in theirs]),
            ("predictions", ours.counts, [len(x.masked_lm_positions) for x in theirs]),
            ("place", ours.positions[:, 0], [x.masked_lm_positions[0] for x in theirs]),
        ]:
            mine, reference = np.asarray(mine, float), np.asarray(reference, float)
            error = np.sqrt(mine.var() / len(mine) + reference.var() / len(reference))
            assert abs(mine.mean() - reference.mean()) < 4 * error, name
            assert abs(mine.std() / reference.std() - 1) < 0.08, name


def google_data() -> types.ModuleType:
    """Google's `create_pretraining_data`, without its flags and TensorFlow."""
    if "module" not in GOOGLE:
        path = next(f for f in metadata.files("bert-tensorflow") if f.name == "create_pretraining_data.py").locate()
        source = path.read_text().replace("from bert import tokenization", "").replace("import tensorflow.compat.v1 as tf", "")
        lines = source[: source.index("flags = tf.flags")] + source[source.index("class TrainingInstance") :]
        GOOGLE["module"] = module = types.ModuleType("google_data")
        module.__dict__["tokenization"] = witness_text.google()
        exec(compile(lines, str(path), "exec"), module.__dict__)
    return GOOGLE["module"]


GOOGLE: dict[str, types.ModuleType] = {}


def restored(arrays: Arrays) -> Arrays:
    """The examples as they were before they were masked."""
    ids = arrays.token_ids.copy()
    rows, within = np.nonzero(np.arange(arrays.positions.shape[1]) < arrays.counts[:, None])
    ids[rows, arrays.positions[rows, within]] = arrays.labels[rows, within]
    return Arrays(**{**{name: getattr(arrays, name) for name in FIELDS}, "token_ids": ids})


def contains(whole: np.ndarray, part: np.ndarray) -> bool:
    return " ".join(map(str, part)) + " " in " ".join(map(str, whole)) + " "


class TestMasks:
    @pytest.fixture(scope="class")
    def rows(self):
        """Ids [2000, 64] of "un ##like ##ly" and single pieces, in two segments, and what goes on in them."""
        rng = np.random.default_rng(0)
        ids, goes = np.zeros((2000, 64), np.int32), np.zeros((2000, 64), bool)
        for row in range(2000):
            words: list[str] = ["[CLS]"]
            length = int(rng.integers(10, 64))
            while len(words) < length - 1:
                words += ["un", "##like", "##ly"] if rng.random() < 0.3 else [str(rng.choice(["good", "film", "[UNK]", "a"]))]
                if len(words) > length // 2 and "[SEP]" not in words:
                    words.append("[SEP]")
            words = [*words[: length - 1], "[SEP]"]
            ids[row, : len(words)] = [IDS[w] for w in words]
            goes[row, : len(words)] = [w.startswith("##") for w in words]
        return ids, goes

    @staticmethod
    def run(rows, unit, most=20, rate=0.15, epoch=0):
        ids, goes = rows
        special = Special.of(VOCABULARY)
        found = masking.mask(ids, goes, special, Masking(unit, rate, most), keys(0, epoch, np.arange(len(ids))), IDS["[PAD]"])
        chosen = np.zeros(ids.shape, bool)
        at, within = np.nonzero(np.arange(found.positions.shape[1]) < found.counts[:, None])
        chosen[at, found.positions[at, within]] = True
        assert chosen.sum() == found.counts.sum() and (found.labels[at, within] == ids[at, found.positions[at, within]]).all()
        assert (found.token_ids[~chosen] == ids[~chosen]).all()
        return found, chosen

    @pytest.mark.parametrize("unit", ["piece", "word", "span"])
    def test_rates(self, rows, unit):
        ids, _ = rows
        found, chosen = self.run(rows, unit)
        lengths = (ids != 0).sum(1)
        wanted = np.minimum(20, np.maximum(1, np.rint(lengths * 0.15)))
        special = np.isin(ids, [IDS[t] for t in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")])
        assert not (chosen & special).any()
        assert (found.counts <= wanted).all() and (unit == "word" or (found.counts == wanted).all())
        assert found.counts.sum() > 0.93 * wanted.sum()
        masked, kept = found.token_ids[chosen] == IDS["[MASK]"], found.token_ids[chosen] == ids[chosen]
        count = chosen.sum()
        slack = 5 * np.sqrt(0.2 / count) * (2 if unit == "span" else 1)
        assert abs(masked.mean() - 0.8) < slack
        pieces = len(VOCABULARY) - 5
        assert abs(kept.mean() - (0.1 + 0.1 / pieces)) < slack
        other = found.token_ids[chosen][~masked & ~kept]
        assert not np.isin(other, range(5)).any() and len(set(other.tolist())) > 0.8 * pieces

    def test_every_piece_is_as_likely(self, rows):
        ids, _ = rows
        times = sum(self.run(rows, "piece", epoch=epoch)[1].astype(int) for epoch in range(40))
        lengths = (ids != 0).sum(1)
        full = (lengths == 40)[:, None] & ~np.isin(ids, [0, 1, 2, 3, 4])
        candidates = full.sum(1, keepdims=True)
        expected = np.where(full, 40 * 6 / np.maximum(candidates, 1), 0)
        deviation = (times - expected)[full] / np.sqrt(expected * (1 - expected / 40))[full]
        assert abs(deviation.mean()) < 0.2 and 0.9 < deviation.std() < 1.1 and np.abs(deviation).max() < 5

    def test_words_are_whole(self, rows):
        _, goes = rows
        _, chosen = self.run(rows, "word")
        assert (chosen[:, 1:] == chosen[:, :-1])[goes[:, 1:]].all()
        assert chosen[goes].mean() == pytest.approx(chosen[:, :-1][goes[:, 1:]].mean())

    def test_spans_are_geometric(self):
        ids = np.full((200, 4000), IDS["good"], np.int32)
        ids[:, 0], ids[:, -1] = IDS["[CLS]"], IDS["[SEP]"]
        _, chosen = self.run((ids, np.zeros(ids.shape, bool)), "span", most=60)
        # In rows this long spans seldom touch; one of some sixteen is cut where enough is chosen.
        lengths = np.concatenate(
            [np.diff(np.flatnonzero(np.diff(row.astype(int), prepend=0, append=0)))[::2] for row in chosen]
        )
        expected = 0.2 * 0.8 ** np.arange(10)
        expected /= expected.sum()
        found = np.bincount(lengths, minlength=11)[1:11] / len(lengths)
        assert np.abs(found - expected).max() < 0.03 and (lengths > 10).mean() < 0.02
        assert abs(lengths.mean() / (expected * np.arange(1, 11)).sum() - 1) < 0.06

    def test_spans_do_not_cross_segments(self, rows):
        ids, _ = rows
        _, chosen = self.run(rows, "span", rate=0.5, most=64)
        assert not chosen[ids == IDS["[SEP]"]].any()
        # One turn takes one span, of up to ten words: here none that begins in front of the [SEP] goes on behind it.
        row = np.array([[IDS["[CLS]"], *[IDS["film"]] * 3, IDS["[SEP]"], *[IDS["film"]] * 3, IDS["[SEP]"]]], np.int32)
        for seed in range(60):
            key = keys(np.array([seed], np.uint64))
            taken, fates = masking._spans(np.isin(row, IDS["film"]), np.ones_like(row, bool), np.array([6]), key)
            assert taken.sum() == 6 and not set(fates[0, 1:4]) & set(fates[0, 5:8])

    def test_masks_are_drawn_anew_each_epoch_and_alike_for_a_seed(self, rows):
        for unit in ("piece", "word", "span"):
            first, again, other = (self.run(rows, unit, epoch=epoch)[1] for epoch in (0, 0, 1))
            assert (first == again).all()
            assert (first & other).sum() < 0.5 * first.sum()

    def test_a_vocabulary_without_mask(self):
        with pytest.raises(DataError, match=r"the vocabulary has no \[MASK\] among its 1 tokens"):
            Special.of(["a"])

    def test_nothing_to_mask(self):
        ids = np.array([[IDS["[CLS]"], IDS["[UNK]"], IDS["[SEP]"]]], np.int32)
        for unit in ("piece", "word", "span"):
            found, _ = self.run((ids, np.zeros(ids.shape, bool)), unit)
            assert found.counts.tolist() == [0] and found.positions.shape == (1, 0)

    def test_a_segmenters_words_are_whole(self, tmp_path, tokenizer):
        (tmp_path / "a.txt").write_text("电影 unlikely 电影很好\n很好\n" * 40 + "\n好\n好\n", encoding="utf-8")

        def words(text: str) -> list[str]:
            return ["电影", " ", "unlikely", " ", "电影", "很好"] if "电" in text else ["很好"] if len(text) == 2 else [text]

        tokens = read(tmp_path / "a.txt", tokenizer, words=words)
        first = token_files.continues(np.asarray(tokens.ids[:11])).tolist()
        assert first == [False, True, False, True, True, False, True, False, True, False, True]
        made = TextExamples(tokens, VOCABULARY, Cut("mlm", 40), Masking("word"), 0)
        arrays = made.read(np.arange(len(made)), 0)
        plain = restored(arrays).token_ids
        for row in range(len(plain)):
            chosen = set(arrays.positions[row, : arrays.counts[row]].tolist())
            for at in np.flatnonzero(plain[row] == IDS["电"]):
                assert (at in chosen) == (at + 1 in chosen) or plain[row, at + 1] != IDS["影"]

    def test_replacements_leave_out_unused_tokens(self):
        special = Special.of([*VOCABULARY, "[unused0]", "[unused1]", "[other]"])
        assert [i for i in range(len(VOCABULARY) + 3) if i not in special.replacements] == [0, 1, 2, 3, 4, 41, 42]


def lengths_of(batches):
    return np.concatenate([inputs["padding_mask"].numpy().sum(1) for inputs, _, _ in batches])


class TestBatches:
    def test_the_same_batches_wherever_a_run_starts(self, many, monkeypatch):
        monkeypatch.setattr(batching, "CHUNK_ROWS", 56)  # several chunks
        made = TextExamples(many, VOCABULARY, Cut("mlm+nsp", 24), Masking(), 0)
        batches = PretrainingBatches(made, pairs="nsp", batch_size=7, seed=3, max_length=24)
        assert batches.per_epoch == -(-len(made) // 7)
        taken = list(batches.dataset(0).take(batches.per_epoch + 5))
        rows = [int(inputs["token_ids"].shape[0]) for inputs, _, _ in taken]
        assert sum(rows[: batches.per_epoch]) == len(made) and sorted(rows[: batches.per_epoch])[1] == 7
        for start in (13, batches.per_epoch + 2):
            found, expected = next(iter(batches.dataset(start))), taken[start]
            tf.nest.map_structure(np.testing.assert_array_equal, found, expected)
        for inputs, targets, weights in taken[:20]:
            lengths = inputs["padding_mask"].numpy().sum(1)
            assert (
                inputs["token_ids"].shape[1] == (16 if lengths.max() <= 16 else 24)
                and (inputs["token_ids"].numpy()[inputs["padding_mask"] == 0] == 0).all()
            )
            assert targets["mlm"].shape == weights["mlm"].shape == inputs["masked_positions"].shape
            assert set(weights["nsp"].numpy().tolist()) == {1.0} and set(targets["nsp"].numpy().tolist()) <= {0, 1}
        epochs = [
            [tuple(r) for b in part for r in b[0]["token_ids"].numpy().tolist()]
            for part in (taken[:5], taken[batches.per_epoch :])
        ]
        assert epochs[0] != epochs[1]

    def test_the_rows_of_a_short_batch_are_of_any_length(self, many, monkeypatch):
        monkeypatch.setattr(batching, "CHUNK_ROWS", 29 * 7)
        made = TextExamples(many, VOCABULARY, Cut("mlm", 24), Masking(), 0)
        rest, wide = len(made) % 7, -(-len(made) // 7) % 29
        assert rest and wide > 5
        means = {}
        for order in (1, 2):
            seed = seed_of(3, order)
            batches = PretrainingBatches(made, pairs=None, batch_size=7, seed=seed, max_length=24)
            first = batches.per_epoch - wide  # of the last chunk
            found = [lengths_of(batches.dataset(epoch * batches.per_epoch + first).take(wide)) for epoch in range(12)]
            assert {len(lengths) for lengths in found} == {(wide - 1) * 7 + rest}
            means[order] = np.mean([lengths[-rest:].mean() - lengths.mean() for lengths in found])
        assert means[1] > 2 * abs(means[2])

    def test_fixed_shapes(self, many):
        made = TextExamples(many, VOCABULARY, Cut("mlm+nsp", 24), Masking(most=5), 0)
        plain, padded = (
            PretrainingBatches(made, pairs="nsp", batch_size=48, seed=3, max_length=24, predictions=most) for most in (None, 5)
        )
        taken = zip(plain.dataset(0).take(plain.per_epoch), padded.dataset(0), strict=False)
        for parts, others in taken:
            for part, other in zip(parts, others, strict=True):
                for name, values in part.items():
                    assert other[name].shape == [48, 5 if name in ("masked_positions", "mlm") else 24][: len(values.shape)]
                    own = other[name].numpy()[tuple(map(slice, values.shape))]
                    assert (own == values.numpy()).all() and np.abs(other[name].numpy()).sum() == np.abs(own).sum()

    def test_rows_of_like_length_share_a_batch_which_is_named(self, many):
        made = TextExamples(many, VOCABULARY, Cut("mlm+sop", 24), Masking(), 0)
        batches = PretrainingBatches(made, pairs="sop", batch_size=16, seed=3, max_length=24)
        taken = list(batches.dataset(0).take(batches.per_epoch))
        lengths = [inputs["padding_mask"].numpy().sum(1) for inputs, _, _ in taken]
        assert np.mean([each.mean() / each.max() for each in lengths]) > 0.9
        assert any(0.0 in weights["sop"].numpy() for _, _, weights in taken)  # single sentences are no pairs
        where = batches.where(2)
        name, line = where.split(", ")[0].rsplit(":", 1)
        assert name == many.files[0] and int(line) >= 1 and len(where.split(", ")) == 16


class TestShards:
    @pytest.fixture(scope="class")
    def made(self, many):
        return TextExamples(many, VOCABULARY, Cut("mlm+sop", 24), Masking(most=4), 0)

    @pytest.fixture
    def shard(self, made, tmp_path):
        records.write_shard(tmp_path / "a.tfrecord", made, 2, range(10, 60), seed=5)
        return tmp_path / "a.tfrecord"

    @staticmethod
    def opened(path, **more):
        return records.RecordExamples(
            str(path), **{"vocabulary_size": len(VOCABULARY), "max_length": 24, "pairs": True, **more}
        )

    def test_written_and_read_are_the_same(self, made, shard):
        found = self.opened(shard)
        assert len(found) == 50 and found.where(3) == f"{shard}: record 4"
        again = found.read(np.arange(50), 0)
        from kbert.train.batches import permuted

        drawn = permuted(np.arange(10, 60), 2 * len(made), 5, 0)
        expected = made.read(drawn % len(made), drawn // len(made))
        for name in FIELDS:
            np.testing.assert_array_equal(getattr(again, name), getattr(expected, name), err_msg=name)
        np.testing.assert_array_equal(found.read(np.array([7]), 0).labels[0], expected.labels[7, : expected.counts[7]])
        assert found.frequencies().sum() == expected.counts.sum()
        alone = np.flatnonzero(again.pair < 0)  # single sentences, which any record may be
        assert len(alone) and all(found.read(np.array([number]), 0).pair[0] == -1 for number in alone)

    def test_other_records_of_the_same_sizes_have_another_digest(self, many, shard, tmp_path):
        other = TextExamples(many, VOCABULARY, Cut("mlm+sop", 24), Masking(most=4), 0)
        for seed, same in ((5, True), (6, False)):
            records.write_shard(tmp_path / f"{seed}.tfrecord", other, 2, range(10, 60), seed=seed)
            one, another = (records._surveyed(str(path)) for path in (shard, tmp_path / f"{seed}.tfrecord"))
            assert np.array_equal(one[0], another[0]) and (one[1] == another[1]) is same
            assert (self.opened(shard).digest == self.opened(tmp_path / f"{seed}.tfrecord").digest) is same

    def test_other_kinds_of_examples_are_refused(self, many, shard, tmp_path, caplog):
        made = TextExamples(many, VOCABULARY, Cut("mlm", 24), Masking(most=4), 0)
        records.write_shard(tmp_path / "b.tfrecord", made, 1, range(20), seed=5)
        with pytest.raises(DataError, match="b.tfrecord: its examples are no pairs; they were made for --objective=mlm"):
            self.opened(tmp_path / "b.tfrecord")
        assert len(self.opened(tmp_path / "b.tfrecord", pairs=False)) == 20
        options, train = PretrainOptions(objective="mlm+sop"), PretrainConfig(train_data="*.tfrecord", mask_rate=0.3)
        sources._check_manifest(tmp_path, options, VOCABULARY, True, train)  # shards alone say nothing of it
        (tmp_path / "vocab.txt").write_text("\n".join(VOCABULARY), encoding="utf-8")
        (tmp_path / "manifest.json").write_text('{"options": {"objective": "mlm+nsp", "lowercase": true}}')
        with pytest.raises(UsageError, match="--objective=mlm.sop: the shards in .* were made for mlm.nsp"):
            sources._check_manifest(tmp_path, options, VOCABULARY, True, train)
        with pytest.raises(UsageError, match="have text in lower case, but the model reads it as it is written"):
            sources._check_manifest(tmp_path, PretrainOptions(objective="mlm"), VOCABULARY, False, train)
        caplog.set_level("WARNING", "kbert.pretraining.sources")
        manifest = '{"options": {"objective": "mlm+sop", "lowercase": true, "mask_rate": 0.2, "mask_unit": "piece"}}'
        (tmp_path / "manifest.json").write_text(manifest)
        sources._check_manifest(tmp_path, options, VOCABULARY, True, train)
        assert "--mask_rate applies to plain text only; the shards in" in caplog.text and "have 0.2" in caplog.text
        with pytest.raises(DataError, match="made with another vocabulary, "):
            sources._check_manifest(tmp_path, options, VOCABULARY[::-1], True, train)

    @pytest.mark.parametrize("name", ["x.tfrecord", "x.tfrecord*", "d/x.tfrecord-00000-of-00010", "x-*.tfrecord-*"])
    def test_names_of_shards(self, name):
        assert records.is_records(name) and not records.is_records("d.tfrecord/x.txt")

    def test_the_layout_is_googles(self, shard):
        widths = {"input_ids": 24, "input_mask": 24, "segment_ids": 24, "masked_lm_positions": 4, "masked_lm_ids": 4}
        for record in tf.data.TFRecordDataset(str(shard)).take(3):
            features = tf.train.Example.FromString(record.numpy()).features.feature
            assert {name: len(features[name].int64_list.value) for name in widths} == widths
            assert (
                len(features["masked_lm_weights"].float_list.value) == 4
                and len(features["next_sentence_labels"].int64_list.value) == 1
            )
            again = tf.train.Example.FromString(tf.train.Example.FromString(record.numpy()).SerializeToString())
            assert again.features.feature == features

    @given(st.lists(st.lists(st.integers(0, (1 << 31) - 1), min_size=3, max_size=3), min_size=1, max_size=4))
    def test_protocol_buffers_read_what_is_packed(self, rows):
        found = records._entry("n", 3, records._varints(np.array(rows)))
        features = [tf.train.Example.FromString(b"\x0a" + records._varint(len(x)) + x).features for x in map(bytes, found)]
        assert [list(x.feature["n"].int64_list.value) for x in features] == rows

    def test_damage_is_named_and_left_out_if_asked(self, made, shard, tmp_path):
        whole = shard.read_bytes()
        damaged = {
            "b.tfrecord": whole[:-7],  # cut short
            "c.tfrecord": whole[:700] + bytes([whole[700] ^ 1]) + whole[701:],
            "d.tfrecord": b"",
        }
        for name, content in damaged.items():
            (tmp_path / name).write_bytes(content)
            message = "has no record" if not content else rf"damaged or cut short after record {49 if name[0] == 'b' else 2}"
            with pytest.raises(
                DataError, match=rf"{name}: {message}; make it again, or continue without it by --skip_damaged_shards"
            ):
                self.opened(tmp_path / "*.tfrecord" if name == "b.tfrecord" else tmp_path / name)
        found = self.opened(tmp_path / "*.tfrecord", skip=True)
        assert len(found) == 50 and len(found.damaged) == 3
        with pytest.raises(DataError, match="no shard is whole"):
            self.opened(tmp_path / "b.tfrecord", skip=True)

    def test_what_does_not_fit_the_model_is_said(self, made, shard, tmp_path):
        with pytest.raises(DataError, match=r"a\.tfrecord: record 1: has 24 tokens, the model reads --max_length=20"):
            found = self.opened(shard, max_length=20)
            found.read(np.arange(50), 0)
        with pytest.raises(DataError, match="was it made with another vocabulary?"):
            found = self.opened(shard, vocabulary_size=12)
            found.read(np.arange(50), 0)
        arrays = made.read(np.arange(2), 0)
        for field, value, message in (
            ("token_ids", -1, "has id -1, but the model"),
            ("labels", 999, "has masked id 999, but the model"),
            ("positions", 24, "has a masked position 24 beyond its tokens"),
            ("segment_ids", 2, "has segment 2, but there are 2"),
        ):
            wrong = getattr(arrays, field).copy()
            wrong[1, 0] = 0 if value < 0 else value
            content = [*records.serialised(dataclasses.replace(arrays, **{field: wrong}), 24, made.masked.most)]
            if value < 0:  # which kbert does not write
                example = tf.train.Example.FromString(content[1])
                example.features.feature["input_ids"].int64_list.value[0] = value
                content[1] = example.SerializeToString()
            with tf.io.TFRecordWriter(str(tmp_path / "w.tfrecord")) as writer:
                for record in content:
                    writer.write(record)
            with pytest.raises(DataError, match=f"w.tfrecord: record 2: {message}"):
                self.opened(tmp_path / "w.tfrecord").read(np.arange(2), 0)
        with tf.io.TFRecordWriter(str(tmp_path / "x.tfrecord")) as writer:
            writer.write(b"no example")
        with pytest.raises(DataError, match="x.tfrecord: record 1 or a later one: not a pre-training example"):
            self.opened(tmp_path / "x.tfrecord")
        alone = TextExamples(made.tokens, VOCABULARY, Cut("mlm", 24), Masking(most=4), 0)
        records.write_shard(tmp_path / "y.tfrecord", alone, 1, range(20), seed=5)
        with pytest.raises(DataError, match="its examples are no pairs; they were made for --objective=mlm"):
            self.opened(tmp_path / "y.tfrecord")
        assert len(self.opened(tmp_path / "y.tfrecord", pairs=False)) == 20
        with pytest.raises(DataError, match="no such file"):
            self.opened(tmp_path / "none-*.tfrecord")


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux tells what a process has mapped")
def test_what_was_read_of_a_corpus_does_not_stay_in_memory():
    def mapped(values, kind):
        file = token_files._temporary()
        file.write(values.astype(kind).tobytes())
        return token_files._mapped(file, kind)

    def resident() -> int:
        return int(re.search(r"RssFile:\s+(\d+) kB", Path("/proc/self/status").read_text())[1])

    count = 3_000_000  # tokens, in documents of 400
    documents = np.zeros(count // 400, token_files.DOCUMENTS)
    documents["first"] = np.arange(len(documents)) * 20
    documents["last"] = documents["first"] + 20
    ids = mapped(np.random.default_rng(0).integers(5, len(VOCABULARY), count), np.dtype("<u2"))
    ends = mapped(np.arange(0, count + 1, 20), np.dtype("<u8"))
    corpus = token_files.Tokens(ids, ends, mapped(documents, token_files.DOCUMENTS), ["x"], 0)
    examples = TextExamples(corpus, VOCABULARY, Cut("mlm", 128), Masking(), 0)
    examples.read(np.arange(8), 0)
    before = resident()
    examples.frequencies()
    for start in range(0, len(examples), 4096):
        examples.read(np.arange(start, min(start + 4096, len(examples))), 0)
    corpus.split(0.1, 0)
    assert resident() - before < 2_500  # kB; the ids alone have 6,000
