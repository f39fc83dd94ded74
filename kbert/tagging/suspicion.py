"""CoNLL columns that were surely not meant: what is suspicious in a file is an error, unless the user chose the column.

In: a `Survey` of a file. Out: nothing, or a DataError that shows the first tokens as they were understood and names
the flag that settles it.
"""

import itertools
import re
from collections import Counter
from collections.abc import Iterator

from kbert.errors import DataError
from kbert.tagging.conll import Survey
from kbert.tagging.schemes import Tags, split

FEW = 20  # tokens below which nothing is said of shares
FIRST = 3  # tokens that a message shows
MOST = 0.9  # share that is nearly all
LOWER = re.compile(r"[biesmlu]-.+|o")
BESIDE = 12  # columns that are looked at


def check(name: str, seen: Survey, tags: Tags | None) -> None:
    """Raise DataError where the columns of a file were surely not meant.

    Args:
        name: the file, for messages.
        seen: what its lines are like.
        tags: the scheme of its tags; None where texts alone are read.
    """
    doubts = itertools.chain(
        () if seen.columns.word_named else _of_tokens(seen),
        () if tags is None or (seen.columns.word_named and seen.columns.tag_named) else _of_sentences(seen),
        () if tags is None or seen.columns.tag_named else _of_tags(seen, tags),
    )
    for doubt in doubts:
        at = seen.columns.tag
        first = [
            f"{number}: token {parts[seen.columns.word]!r}" + ("" if at is None else f", tag {parts[at]!r}")
            for number, _, parts in seen.lines[:FIRST]
        ]
        raise DataError(f"{name}: {doubt} As it was understood, line {'; line '.join(first)}.")


def _of_tokens(seen: Survey) -> Iterator[str]:
    words = [parts[seen.columns.word] for *_, parts in seen.lines]
    several = [(place, word) for (_, place, _), word in zip(seen.lines, words, strict=True) if place]
    for start in (0, 1):
        if len(several) >= 2 and _share(word == str(place + start) for place, word in several) > MOST:
            number = (seen.columns.word % len(seen.lines[0][2])) + 2
            yield (
                f"the tokens are the numbers {start}, {start + 1}, {start + 2}: a column that counts them. "
                f"--text_columns={number} takes the column after it (--text_columns={number - 1} these numbers)."
            )
    if len(words) >= FEW and _share(word == "O" or bool(split(word)[0]) for word in words) > MOST:
        yield (
            "the tokens look like tags (B-, I-, O). --text_columns= and --label_column= take the numbers of the columns of "
            "tokens and tags (1 is the first, -1 the last), for example --text_columns=2 --label_column=1."
        )


def _of_tags(seen: Survey, tags: Tags) -> Iterator[str]:
    at = seen.columns.tag
    assert at is not None
    total = seen.counts.tokens
    names = seen.tags
    if names and all(LOWER.fullmatch(tag) for tag in names):
        yield (
            "the tags are lower-case b-, i-, o, so that 'o' would be a type. Write B-, I-, O; --label_column= with the "
            "column's number takes them as types."
        )
    if tags.scheme != "bare" and not (tags.untyped and set(names) <= {"O"}):
        if total >= FEW and (often := _most(names, total)) and often != "O":
            yield f"{_often(often, names, total)}. --label_column= takes the number of the column of tags."
        return
    if "0" in names and len(names) > 1:
        yield (
            "the tags are '0' and types. If 0 is what is in no entity, write O and B-, I- before the types; "
            "--label_column= with the column's number takes 0 as a type."
        )
    found = _column_of_entities(seen)
    if found is not None:
        shown = next(parts[found] for *_, parts in seen.lines if split(parts[found])[0])
        yield (
            f"column {found + 1} holds tags with prefixes ({shown}), but the tags are taken from column "
            f"{at + 1 if at >= 0 else at}. --label_column={found + 1} takes them from there (--label_column={at + (at >= 0)} "
            "from where they are)."
        )
    if set(names) == {"O"}:
        return  # no entity, which is for the task to say
    if total >= FEW and (often := _most(names, total)):
        yield f"{_often(often, names, total)}. --label_column= takes the number of the column of tags."
    pairs = [(parts[seen.columns.word], parts[at]) for *_, parts in seen.lines]
    words, many = len({word for word, _ in pairs}), len({tag for _, tag in pairs})
    alike = sum(word.casefold() == tag.casefold() and word.isalpha() for word, tag in pairs)
    swapped = many > 1.5 * words
    if len(pairs) >= FEW and (swapped or (many > 50 and many > 0.3 * len(pairs)) or alike > 0.3 * len(pairs)):
        yield (
            f"the tags look like words: {many:,} different ones for {words:,} different tokens. --label_column= and "
            "--text_columns= take the numbers of the columns of tags and tokens (1 is the first, -1 the last)."
        )


def _of_sentences(seen: Survey) -> Iterator[str]:
    if seen.sentences > 1:
        return
    # As many tags as the token has words: `a film <tab> O B-X`.
    pairs = sum(1 < len(parts[seen.columns.word].split()) == len(parts) - 1 for *_, parts in seen.lines)
    sure = " (a file that is one sentence is read as such with --text_columns= and --label_column= as numbers of its columns)"
    if len(seen.lines) >= 2 and (pairs > MOST * len(seen.lines) or (len(seen.lines) >= 5 and len(seen.widths) > 2)):
        yield (
            f"each line looks like a whole sentence; a line is a token and its tag, and a blank line separates sentences{sure}."
        )
    if seen.counts.tokens >= 1000 or (seen.counts.tokens >= 100 and seen.ends >= 5):
        yield (f"{seen.counts.tokens:,} tokens are a single sentence; a blank line has to separate sentences{sure}.")


def _column_of_entities(seen: Survey) -> int | None:
    """A column other than those read that has nothing but tags with prefixes and O, the last such one."""
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
    """The tag of nearly all tokens, or `_` where most have it."""
    tag, count = names.most_common(1)[0]
    return tag if count > MOST * total or (tag == "_" and count > total / 2) else None


def _often(tag: str, names: Counter[str], total: int) -> str:
    return f"{names[tag]:,} of {total:,} tokens have the tag {tag!r}"


def _share(true: Iterator[bool]) -> float:
    found = list(true)
    return sum(found) / len(found)
