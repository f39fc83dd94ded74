"""Parse SQuAD documents (v1.1, v2.0; CMRC2018, DRCD and XQuAD share the layout) and gold answers.

In: a JSON document, or one row's gold as JSON text. Out: rows of strings; answers with their
offsets. A row's gold is a list of `{"text", "answer_start"}`, empty where the context holds no
answer, `IMPOSSIBLE` where the document states that; `answer_start` counts characters from 0. Wrong offsets are
known (CMRC2018 has 200): an answer found elsewhere in its context is taken from the occurrence nearest to the
given offset. No TensorFlow here.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

from kbert.data.offsets import Places
from kbert.source import Offsets

Gold = tuple[str, int]  # an answer's text and its first character, as given
IMPOSSIBLE = '{"text": [], "answer_start": [], "is_impossible": true}'  # the gold of a question known to have no answer


def rows(document: Any) -> Iterator[dict[str, str]]:
    """Yield a document's questions: `question`, `context`, `id` and, if present, `answers` (JSON text), in order.

    Raises:
        ValueError: the document has another layout; the message says where and what was found.
    """
    for d, article in enumerate(_list(document, "data", "the document")):
        for p, paragraph in enumerate(_list(article, "paragraphs", f"data[{d}]")):
            where = f"data[{d}].paragraphs[{p}]"
            context = _string(paragraph, "context", where)
            for q, question in enumerate(_list(paragraph, "qas", where)):
                place = f"{where}.qas[{q}]"
                # v2.0 marks questions without an answer; they list plausible answers under another key.
                row = {
                    "question": _string(question, "question", place),
                    "context": context,
                    "id": str(question.get("id", place)),
                }
                impossible = question.get("is_impossible", False)
                if not isinstance(impossible, bool):
                    raise ValueError(f"{place}: is_impossible: expected true or false, found {json.dumps(impossible)[:60]}")
                if impossible:
                    row["answers"] = IMPOSSIBLE
                elif "answers" in question:  # a test set may hide them
                    row["answers"] = json.dumps(_list(question, "answers", place), ensure_ascii=False)
                yield row


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
        raise ValueError(f"the answers are not JSON: {text[:60]!r}") from None
    said = False
    if isinstance(found, dict) and isinstance(found.get("text"), list) and isinstance(found.get("answer_start"), list):
        if len(found["text"]) != len(found["answer_start"]):
            raise ValueError(f"{len(found['text'])} answer texts, but {len(found['answer_start'])} answer_start values")
        said = found.get("is_impossible") is True
        found = [{"text": t, "answer_start": s} for t, s in zip(found["text"], found["answer_start"], strict=True)]
    if not isinstance(found, list):
        raise ValueError(f'expected a list of {{"text", "answer_start"}} as answers, found {text[:60]}')
    return found, said


class AnswerReader:
    """Converts gold answers whose `answer_start` counts UTF-16 units or bytes; see `kbert.data.table.open_table`."""

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
    shown = json.dumps(answer, ensure_ascii=False)[:60]
    if not isinstance(answer, dict) or not isinstance(answer.get("text"), str):
        raise ValueError(f'expected an answer {{"text", "answer_start"}}, found {shown}')
    if not answer["text"].strip():
        raise ValueError(f"an answer is empty ({shown}); a question without an answer has an empty list")
    start = answer.get("answer_start")
    if not isinstance(start, int) or isinstance(start, bool):
        raise ValueError(f"answer_start: expected a number of characters, found {shown}")
    return whole(answer["text"]), start


def whole(text: str) -> str:
    """Replace half of a surrogate pair, which JSON can encode, by the replacement character, as tables hold it."""
    return re.sub("[\ud800-\udfff]", "\ufffd", text)


def _list(value: Any, key: str, where: str) -> list[Any]:
    if not isinstance(value, dict) or not isinstance(value.get(key), list):
        raise ValueError(f"{where} has no list {key!r}")
    found: list[Any] = value[key]
    return found


def _string(value: Any, key: str, where: str) -> str:
    if not isinstance(value, dict) or not isinstance(value.get(key), str):
        raise ValueError(f"{where} has no text {key!r}")
    found: str = value[key]
    return found
