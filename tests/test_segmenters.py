"""Segmenters by name: words that joined are the text, and clear words where that fails."""

import sys
import types

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kbert.data.segmenters import segmenter
from kbert.errors import DataError, UsageError


def test_words_of_chinese_english_and_mixtures():
    pytest.importorskip("jieba")
    words = segmenter("jieba")
    assert words("我来到北京清华大学") == ["我", "来到", "北京", "清华大学"]
    assert words("用BERT读 Chinese 文本。") == ["用", "BERT", "读", " ", "Chinese", " ", "文本", "。"]
    assert words("") == []
    assert segmenter("jieba") is words


@given(st.text(st.characters(codec="utf-8") | st.sampled_from("北京大学 电影\r\n\t。")))
def test_words_joined_are_the_text(text):
    pytest.importorskip("jieba")
    assert "".join(segmenter("jieba")(text)) == text


def test_no_dictionary_is_left_in_a_shared_folder(tmp_path, monkeypatch):
    pytest.importorskip("jieba")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    segmenter.__wrapped__("jieba")("北京大学")
    assert list(tmp_path.iterdir()) == []


def test_ones_own(monkeypatch):
    module = types.ModuleType("our_words")
    module.cut = lambda text: (character for character in text)
    module.lossy = str.split
    module.number = 3
    monkeypatch.setitem(sys.modules, "our_words", module)
    assert segmenter("our_words:cut")("很好") == ["很", "好"]
    with pytest.raises(
        DataError, match=r"--segmenter=our_words:lossy: its words do not concatenate to the text 'a b': \['a', 'b'\]"
    ):
        segmenter("our_words:lossy")("a b")
    for name, message in {
        "our_words": "expected jieba, or module:function",
        "no_such_module:cut": "No module named 'no_such_module'",
        "our_words:none": "has no attribute 'none'",
        "our_words:number": "number is not a function",
    }.items():
        with pytest.raises(UsageError, match=f"--segmenter={name}: .*{message}"):
            segmenter(name)


def test_jieba_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "jieba", None)
    with pytest.raises(UsageError, match=r"jieba is not installed; pip install 'kbert-keras\[jieba\]'"):
        segmenter.__wrapped__("jieba")
