"""Read SQuAD documents (v1.1, v2.0; CMRC2018, DRCD and XQuAD share the layout).

    {"data": [{"title": "Oslo", "paragraphs": [{"context": "Ada lives in Oslo.", "qas": [
      {"id": "q1", "question": "Where does she live?", "answers": [{"text": "Oslo", "answer_start": 13}]},
      {"id": "q2", "question": "Who sings?", "answers": [], "is_impossible": true}]}]}]}

In: an article of a document, or one row's gold as JSON text. Out: rows; answers with their offsets. A row's gold is a list of
`{"text", "answer_start"}`, empty where the context holds no answer, `IMPOSSIBLE` where the document states that; `answer_start`
counts characters from 0. Lists in an object (Hugging Face), texts without `answer_start` and a single text are read too.
Wrong offsets are known (CMRC2018 has 200): an answer found elsewhere in its context is taken from the occurrence nearest to the
given offset, one without an offset from the first. No TensorFlow here.
Source: Rajpurkar et al. 2016 and 2018, https://rajpurkar.github.io/SQuAD-explorer.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

from kbert.data.offsets import Places
from kbert.source import Offsets

Gold = tuple[str, int]  # an answer's text and its first character, as given
KEYS = {"question": ("question", "query_text"), "context": ("context", "context_text"), "id": ("id", "query_id")}  # and CMRC's
SURROGATES = re.compile("[\ud800-\udfff]")
UNPLACED = -1  # the place of an answer that is given without one
IMPOSSIBLE = '{"text": [], "answer_start": [], "is_impossible": true}'  # the gold of a question known to have no answer


def article(item: Any, where: str) -> Iterator[dict[str, Any]]:
    """Yield the questions of an article, an item of a document's `data`: `question`, `context`, `id` and, if given, `answers`.

    Raises:
        ValueError: the article has another layout; the message says where and what was found.
    """
    for p, each in enumerate(_list(item, "paragraphs", where)):
        yield from paragraph(each, f"{where}.paragraphs[{p}]")


def paragraph(item: Any, where: str) -> Iterator[dict[str, Any]]:
    """Yield the questions of a paragraph, like `article`; CMRC2018's own documents are a list of such, with keys of their own.

    Raises:
        ValueError: the paragraph has another layout.
    """
    context = _string(item, "context", where)
    for q, question in enumerate(_list(item, "qas", where)):
        place = f"{where}.qas[{q}]"
        row: dict[str, Any] = {"question": _string(question, "question", place), "context": context}
        row["id"] = str(next((question[key] for key in KEYS["id"] if key in question), place))
        impossible = question.get("is_impossible", False)
        if not isinstance(impossible, bool):
            raise ValueError(f"{place}: is_impossible: expected true or false, found {json.dumps(impossible)[:60]}")
        if "answers" in question:  # a test set may hide them
            answers = question["answers"]
            if not isinstance(answers, list | dict):
                raise ValueError(f"{place} has no list 'answers'")
            row["answers"] = answers
        yield {**row, "is_impossible": impossible}


def parse(text: str) -> list[Gold]:
    """Parse a row's gold answers from JSON text: a list of objects, or TFDS's object of lists.

    Raises:
        ValueError: the text is neither.
    """
    return [_gold(answer) for answer in _answers(text)[0]]


def impossible(text: str) -> bool:
    """Return whether a row's gold marks the question as having no answer, as opposed to listing none."""
    return _answers(text)[1]


def _answers(text: str) -> tuple[list[Any], bool]:
    """Return the answers of a row's gold, and whether it marks the question as having none."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        if text.lstrip()[:1] in ("[", "{"):
            raise ValueError(f"the answers are not JSON: {text[:60]!r}") from None
        found = text
    said = False
    if isinstance(found, dict) and "text" in found:
        said = found.get("is_impossible") is True
        texts, starts = found["text"], found.get("answer_start", found.get("start"))
        if not isinstance(texts, list):
            texts, starts = [texts], [starts]
        starts = [None] * len(texts) if starts is None else starts
        if isinstance(starts, list):
            if len(texts) != len(starts):
                raise ValueError(f"{len(texts)} answer texts, but {len(starts)} answer_start values")
            found = [{"text": t, "answer_start": s} for t, s in zip(texts, starts, strict=True)]
    elif not isinstance(found, list | dict):
        found = [text if not isinstance(found, str) else found]  # the answer itself
    if not isinstance(found, list):
        raise ValueError(f'expected a list of {{"text", "answer_start"}} as answers, found {text[:60]}')
    return found, said


class AnswerReader:
    """Converts gold answers whose `answer_start` counts UTF-16 units or bytes; see `kbert.data.indexing.open_table`."""

    def __init__(self, offsets: Offsets):
        self.offsets = offsets

    def __call__(self, values: tuple[str, ...]) -> tuple[str, ...]:
        question, context, document, *others = values
        gold = parse(document)
        if not gold:
            return values
        places = Places(whole(context), self.offsets)
        answers = [{"text": text, "answer_start": places.character(start, last=True)} for text, start in gold]
        return (question, context, json.dumps(answers, ensure_ascii=False), *others)

    def finish(self, name: str) -> None:
        """Do nothing: the task's audit counts misplaced answers."""


def locate(context: str, answer: str, start: int) -> int:
    """Find an answer in its context, at `start` or else nearest to it; return its start, or -1 if it is not found."""
    if start >= 0 and context.startswith(answer, start):
        return start
    before = context.rfind(answer, 0, max(start, 0) + len(answer) - 1)
    after = context.find(answer, max(start, 0))
    if before < 0 or after < 0:
        return max(before, after)
    return before if start - before <= after - start else after


def target(context: str, gold: list[Gold]) -> tuple[int, int]:
    """Return the start and end of the first answer found in the context; -1, -1 if there is none."""
    for answer, start in gold:
        place = locate(context, answer, start)
        if place >= 0:
            return place, place + len(answer)
    return -1, -1


def _gold(answer: Any) -> Gold:
    answer = {"text": answer} if isinstance(answer, str) else answer
    if not isinstance(answer, dict) or not isinstance(answer.get("text"), str):
        raise ValueError(f'expected an answer {{"text", "answer_start"}}, found {_shown(answer)}')
    if not answer["text"].strip():
        raise ValueError(f"an answer is empty ({_shown(answer)}); a question without an answer has an empty list")
    start = answer.get("answer_start")
    if start is None:
        start = UNPLACED
    if not isinstance(start, int) or isinstance(start, bool):
        raise ValueError(f"answer_start: expected a number of characters, found {_shown(answer)}")
    return whole(answer["text"]), start


def whole(text: str) -> str:
    """Replace half of a surrogate pair, which JSON can encode, by the replacement character, as tables hold it."""
    return text if text.isascii() else SURROGATES.sub("\ufffd", text)


def _shown(answer: Any) -> str:
    return json.dumps(answer, ensure_ascii=False)[:60]


def _list(value: Any, key: str, where: str) -> list[Any]:
    if not isinstance(value, dict) or not isinstance(value.get(key), list):
        raise ValueError(f"{where} has no list {key!r}")
    found: list[Any] = value[key]
    return found


def _string(value: Any, key: str, where: str) -> str:
    for name in KEYS[key] if isinstance(value, dict) else ():
        if isinstance(value.get(name), str):
            return str(value[name])
    raise ValueError(f"{where} has no text {key!r}")
