"""Score an answer as the official scripts of SQuAD and CMRC2018 do.

In: one predicted text and its gold texts. Out: exact match and F1, 0 to 1 each; over a whole set, the
best threshold for predicting "no answer". "" is the answer of a question that has none.

SQuAD: `evaluate-v2.0.py` (v1.1 differs only for gold answers of articles or punctuation alone). CMRC2018:
`cmrc2018_evaluate.py`, v5. Two of its deviations from its own names are reproduced: the
common part is contiguous (a substring, not a subsequence), and the ellipsis in its
punctuation, two characters compared with single ones, is never removed. It splits Latin text with NLTK's
Treebank rules, approximated here by a short rule (contractions and quotes come out differently).
"""

import re
import string
from collections import Counter
from collections.abc import Sequence
from typing import Literal

import numpy as np

Rules = Literal["squad", "cmrc"]

ARTICLES = re.compile(r"\b(a|an|the)\b")
PUNCTUATION = str.maketrans("", "", string.punctuation)
CMRC_PUNCTUATION = frozenset("-:_*^/\\~`+=，。：？！“”；’《》·、「」（）－～『』")
IDEOGRAPH = re.compile("[\u4e00-\u9fa5]")  # the script's range
# A single mark, or a word with inner points, apostrophes and, before a digit, commas.
LATIN = re.compile(r"""(?:[^\s,;@#$%&?!"()\[\]{}<>—–‘“”«»„…]|,(?=\d))+|\S""")


def normalised(text: str) -> str:
    """Normalise to lower case without ASCII punctuation and articles, single spaces (SQuAD's `normalize_answer`)."""
    return " ".join(ARTICLES.sub(" ", text.lower().translate(PUNCTUATION)).split())


def scores(predicted: str, gold: Sequence[str], rules: Rules) -> tuple[float, float]:
    """Return exact match and F1 of a text, each the best over its gold texts."""
    each = _squad if rules == "squad" else _cmrc
    gold = [answer for answer in gold if rules == "cmrc" or normalised(answer)] or [""]
    found = [each(answer, predicted) for answer in gold]
    return max(exact for exact, _ in found), max(f1 for _, f1 in found)


def _squad(gold: str, predicted: str) -> tuple[float, float]:
    gold, predicted = normalised(gold), normalised(predicted)
    exact = float(gold == predicted)
    wanted, found = gold.split(), predicted.split()
    if not wanted or not found:
        return exact, exact
    return exact, _f1(sum((Counter(wanted) & Counter(found)).values()), len(found), len(wanted))


def _cmrc(gold: str, predicted: str) -> tuple[float, float]:
    exact = float(_without_punctuation(gold) == _without_punctuation(predicted))
    wanted, found = segments(gold), segments(predicted)
    if not wanted or not found:
        return exact, float(wanted == found)
    return exact, _f1(_longest_common(wanted, found), len(found), len(wanted))


def _f1(common: int, found: int, wanted: int) -> float:
    return 2 * common / (found + wanted)


def _without_punctuation(text: str) -> str:
    return "".join(c for c in text.lower().strip() if c not in CMRC_PUNCTUATION)


def segments(text: str) -> list[str]:
    """Split into Chinese characters and Latin words, without CMRC2018's punctuation (`mixed_segmentation`)."""
    found: list[str] = []
    for part in re.split("([\u4e00-\u9fa5])", _without_punctuation(text)):
        words = [part] if IDEOGRAPH.fullmatch(part) else LATIN.findall(part)
        if words and len(words[-1]) > 1 and words[-1].endswith("."):
            words[-1:] = [words[-1][:-1], "."]  # at the end of a sentence
        found += words
    return found


def _longest_common(a: Sequence[str], b: Sequence[str]) -> int:
    """Return the length of the longest common run (`find_lcs`)."""
    best, above = 0, [0] * (len(b) + 1)
    for x in a:
        row = [0] * (len(b) + 1)
        for j, y in enumerate(b):
            if x == y:
                row[j + 1] = above[j] + 1
                best = max(best, row[j + 1])
        above = row
    return best


def best_threshold(margins: np.ndarray, answered: np.ndarray, abstained: np.ndarray) -> float:
    """Find the threshold above which to predict "no answer", with the best mean F1 (ties: exact match).

    As `find_best_thresh` of evaluate-v2.0.py, which tries every row's own margin.

    Args:
        margins: the score of "no answer" minus that of the best answer, [rows].
        answered: F1 and exact match of the best answer, [rows, 2].
        abstained: the same for predicting no answer.

    Returns:
        A value between two rows' margins, or beyond them all.
    """
    order = np.argsort(margins, kind="stable")
    sorted_margins = margins[order].astype(np.float64)
    gain = np.concatenate([np.zeros((1, 2)), np.cumsum((answered - abstained)[order], 0)])  # [rows + 1, 2]
    gain = np.round(gain, 9)  # make equal sums of thirds compare equal
    bounds = np.concatenate([[sorted_margins[0] - 2], sorted_margins, [sorted_margins[-1] + 2]])
    possible = np.flatnonzero(bounds[1:] > bounds[:-1])  # equal margins fall on one side
    k = max(possible, key=lambda i: (gain[i, 0], gain[i, 1]))
    return float((bounds[k] + bounds[k + 1]) / 2)
