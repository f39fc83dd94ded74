"""Read tags that are spelled in another way than `B-PER`, where all tags of a file are: `B_PER`, `PER-B`, `b-per`.

    Ada     B_PER        PER-B        b-per
    Osei    I_PER        PER-I        i-per
    lives   O            O            o

In: the distinct tags of a file. Out: the usual spelling of each, `B-PER`. Tags are respelled only where every tag but O fits
one spelling. Sources: the Chinese Literature corpus of Peking University (B_Time), CRF++ exports (PER-B), lower-cased copies of
CoNLL corpora (b-per).
"""

import re
from collections import defaultdict
from collections.abc import Collection, Mapping

from kbert.data.schemes import OUTSIDE, PREFIXES, split

LETTERS = "".join(sorted(PREFIXES))
UPPER, LOWER = f"[{LETTERS}]", f"[{LETTERS.lower()}]"
# Groups: the prefix and the type. Whether the same type must occur with B and with I or M: a type may end in a letter itself.
SPELLINGS = (
    (re.compile(rf"(?P<prefix>{UPPER})[_:](?P<kind>.+)"), False),
    (re.compile(rf"(?P<kind>.+)[-_](?P<prefix>{UPPER})"), True),
    (re.compile(rf"(?P<prefix>{LOWER})[-_:](?P<kind>.+)"), False),
    (re.compile(rf"(?P<prefix>{LOWER})(?P<kind>)"), True),
    (re.compile(rf"(?P<kind>.+)[-_](?P<prefix>{LOWER})"), True),
)


def respelled(tags: Mapping[str, int]) -> Mapping[str, str]:
    """Return each tag in the usual spelling; empty if the tags have it already, or have no prefixes.

    Args:
        tags: how often each tag occurs.
    """
    kinds = {tag for tag in tags if tag not in ("O", "o")}
    if not kinds or any(split(tag)[0] or tag in PREFIXES for tag in kinds):
        return {}
    outside = len(kinds) < len(tags)
    for pattern, doubtful in SPELLINGS:
        found = {tag: pattern.fullmatch(tag) for tag in kinds}
        parts = {tag: (match["prefix"].upper(), match["kind"]) for tag, match in found.items() if match}
        if len(parts) == len(kinds) and (_continued(parts.values()) or (outside and not doubtful)):
            usual = {tag: f"{prefix}-{kind}" if kind else prefix for tag, (prefix, kind) in parts.items()}
            return {**usual, "O": "O", "o": "O"}
    if "O" not in tags and all(tag.islower() for tag in tags) and tags.get("o", 0) >= OUTSIDE * sum(tags.values()):
        return {"o": "O"}  # types without prefixes in lower case, as in MSRA's corpus: nr, ns, nt, o
    return {}


def _continued(parts: Collection[tuple[str, str]]) -> bool:
    """Return whether a type has both B and I or M."""
    prefixes = defaultdict(set)
    for prefix, kind in parts:
        prefixes[kind].add(prefix)
    return any("B" in found and found & {"I", "M"} for found in prefixes.values())
