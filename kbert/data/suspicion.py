"""Detect CoNLL columns chosen by mistake: suspicious contents are an error unless the user chose the column explicitly.

In: a `Survey` of a file. Out: nothing, or a DataError that shows the first tokens as they were read and names
the flag that resolves it.
"""

import itertools
import logging
import re
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from kbert.data.conll_survey import Survey
from kbert.data.schemes import Tags, split
from kbert.errors import DataError

log = logging.getLogger(__name__)

FEW = 20  # minimum tokens for judging shares
FIRST = 3  # tokens quoted in a message
MOST = 0.9  # share that counts as nearly all
OUTSIDE = frozenset(("0", "o", "none", "null", "nil", "outside"))  # variants of O, case-insensitive
COUNT = re.compile(r"(\d{1,9})[.:)]?")
PAIR = re.compile(r"\S+[/|_](O|[BIESMLU]-[^/|\s]+)")  # token and tag in one column
# Usual column names, if the first line is a header.
NAMES = frozenset(
    "id index word words token tokens form text char character lemma pos upos xpos pos_tag chunk chunk_tag tag tags label "
    "labels ner ner_tag ner_tags entity".split()
)
BESIDE = 12  # columns examined


class Doubt(NamedTuple):
    """A suspicious finding, and how to resolve it."""

    what: str
    settles: str


def check(name: str, seen: Survey, tags: Tags | None) -> None:
    """Raise DataError if the columns of a file were clearly chosen by mistake.

    Args:
        name: the file, for messages.
        seen: statistics of its lines.
        tags: the scheme of its tags; None if only texts are read.
    """
    doubts = itertools.chain(
        _of_header(seen),
        () if seen.columns.word_named else _of_tokens(seen),
        () if tags is None or (seen.columns.word_named and seen.columns.tag_named) else _of_sentences(seen),
        () if tags is None or seen.columns.tag_named else _of_tags(seen, tags),
    )
    for doubt in doubts:
        raise DataError(f"{name}: {doubt.what}. {doubt.settles} {_understood(seen)}")


def check_lists(name: str, seen: Survey, tags: Tags) -> None:
    """Warn if lists of tokens and tags look mistaken; whoever writes lists has named the columns, so it is no error."""
    for doubt in itertools.chain(_of_tokens(seen), _of_tags(seen, tags)):
        log.warning("%s: %s. %s", name, doubt.what, _understood(seen))
        return


def _understood(seen: Survey) -> str:
    at = seen.columns.tag
    first = [
        f"{number}: token {parts[seen.columns.word]!r}" + ("" if at is None else f", tag {parts[at]!r}")
        for number, _, parts in seen.lines[:FIRST]
    ]
    return f"It was read as: line {'; line '.join(first)}."


def _of_header(seen: Survey) -> Iterator[Doubt]:
    if not seen.lines:
        return
    number, _, parts = seen.lines[0]
    named = len(parts) > 1 and len(set(parts)) == len(parts) and all(part.casefold() in NAMES for part in parts)
    if named and (seen.columns.tag is None or seen.tags[parts[seen.columns.tag]] == 1):
        yield Doubt(f"line {number} ({', '.join(parts)}) is a header, not a token", "Remove it.")


def _of_tokens(seen: Survey) -> Iterator[Doubt]:
    words = [parts[seen.columns.word] for *_, parts in seen.lines]
    pairs = [
        (before, word) for (before, word), (_, place, _) in zip(itertools.pairwise(words), seen.lines[1:], strict=True) if place
    ]
    number = (seen.columns.word % len(seen.lines[0][2])) + 2 if seen.lines else 0
    others = f"--text_columns={number} takes the column after it (--text_columns={number - 1} this one)."
    if len(pairs) >= 2 and _share(_counts_on(before, word) for before, word in pairs) > MOST:
        yield Doubt(f"the tokens are the numbers {', '.join(words[:FIRST])}: a column of token numbers", others)
    if len(words) >= FEW and _share(COUNT.fullmatch(word) is not None for word in words) > MOST:
        yield Doubt("nearly all tokens are numbers", others)
    if seen.sentences > 1 and len(pairs) >= FEW and _share(before == word for before, word in pairs) > MOST:
        yield Doubt(f"the tokens of a sentence are all the same ({words[0]}): a column of sentence ids", others)
    if len(words) >= FEW and _share(word == "O" or bool(split(word)[0]) for word in words) > MOST:
        yield Doubt(
            "the tokens look like tags (B-, I-, O)",
            "--text_columns= and --label_column= give the columns of tokens and tags by number (1 is the first, -1 the "
            "last), for example --text_columns=2 --label_column=1.",
        )


def _counts_on(before: str, word: str) -> bool:
    one, other = COUNT.fullmatch(before), COUNT.fullmatch(word)
    return one is not None and other is not None and int(one[1]) + 1 == int(other[1])


def _of_tags(seen: Survey, tags: Tags) -> Iterator[Doubt]:
    at = seen.columns.tag
    assert at is not None
    total = seen.counts.tokens
    names = seen.tags
    if tags.scheme not in ("bare", "IO") and not (tags.untyped and set(names) <= {"O"}):
        if total >= FEW and (often := _most(names, total)) and often != "O":
            yield Doubt(_often(often, names, total), "Give the column of tags with --label_column=NUMBER.")
        return
    for outside in [tag for tag in names if tag.casefold() in OUTSIDE and tag != "O"] if len(names) > 1 else ():
        yield Doubt(
            f"the tags are {outside!r} and types",
            f"If {outside} means outside any entity, write O, and B-, I- before the types; --label_column= with the column's "
            f"number keeps {outside} as a type.",
        )
    found = _column_of_entities(seen)
    if found is not None:
        shown = next(parts[found] for *_, parts in seen.lines if split(parts[found])[0])
        yield Doubt(
            f"column {found + 1} holds tags with prefixes ({shown}), but the tags are read from column "
            f"{at + 1 if at >= 0 else at}",
            f"--label_column={found + 1} reads them from there (--label_column={at + (at >= 0)} confirms the present choice).",
        )
    if set(names) == {"O"}:
        return  # no entity at all: reported by the task
    if total >= FEW and (often := _most(names, total)) and often != "O":
        yield Doubt(_often(often, names, total), "Give the column of tags with --label_column=NUMBER.")
    pairs = [(parts[seen.columns.word], parts[at]) for *_, parts in seen.lines]
    words, many = len({word for word, _ in pairs}), len({tag for _, tag in pairs})
    alike = sum(word.casefold() == tag.casefold() and word.isalpha() for word, tag in pairs)
    swapped = many > 1.5 * words
    if len(pairs) >= FEW and (swapped or (many > 50 and many > 0.3 * len(pairs)) or alike > 0.3 * len(pairs)):
        yield Doubt(
            f"the tags look like words: {many:,} different ones for {words:,} different tokens",
            "--label_column= and --text_columns= give the columns of tags and tokens by number (1 is the first, -1 the last).",
        )


def _of_sentences(seen: Survey) -> Iterator[Doubt]:
    if seen.sentences > 1:
        return
    # As many tags as the token has words: `a film <tab> O B-X`.
    pairs = sum(1 < len(parts[seen.columns.word].split()) == len(parts) - 1 for *_, parts in seen.lines)
    apart = (
        "and a blank line separates sentences (to read a file as a single sentence, give --text_columns= and "
        "--label_column= as column numbers)."
    )
    joined = sum(len(parts) > 1 and all(map(PAIR.fullmatch, parts)) for *_, parts in seen.lines)
    most = MOST * len(seen.lines)
    uneven = len(seen.lines) >= 5 and len(seen.widths) > 2
    if len(seen.lines) >= 2 and (pairs > most or joined > most or uneven):
        yield Doubt("each line looks like a whole sentence", f"Each line must be a token and its tag, {apart}")
    if seen.counts.tokens >= 1000 or (seen.counts.tokens >= 100 and seen.ends >= 5):
        yield Doubt(f"{seen.counts.tokens:,} tokens are a single sentence", f"Each line must be a token and its tag, {apart}")


def _column_of_entities(seen: Survey) -> int | None:
    """Return the last unread column that consists of prefixed tags and O only."""
    if len(seen.widths) != 1:
        return None
    width = min(seen.widths)
    read = {seen.columns.word % width, (seen.columns.tag or 0) % width}
    for column in reversed([c for c in range(min(width, BESIDE)) if c not in read]):
        prefixes = {split(parts[column])[0] for *_, parts in seen.lines}
        if "" not in prefixes and prefixes != {"O"}:
            return column
    return None


def _most(names: Counter[str], total: int) -> str | None:
    """Return the tag of nearly all tokens, or `_` if most have that."""
    tag, count = names.most_common(1)[0]
    return tag if count > MOST * total or (tag == "_" and count > total / 2) else None


def _often(tag: str, names: Counter[str], total: int) -> str:
    return f"{names[tag]:,} of {total:,} tokens have the tag {tag!r}"


def _share(true: Iterator[bool]) -> float:
    found = list(true)
    return sum(found) / len(found)
