"""From the names in a published file to ours, and how far the two agree. Free of torch: names and shapes only."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from MedSeqFTLib.models.catalogue import BACKBONE, PRETEXT, FoundationModel, Rule

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Renamed:
    """ours: our name -> the file's name; dropped: the file's name -> why; left: names that no rule brought to us."""

    ours: Mapping[str, str]
    dropped: Mapping[str, str]
    left: Sequence[str]


def renamed(names: Iterable[str], rules: Sequence[Rule]) -> Renamed:
    """Apply the rules, in their order, to every name of a file. Of two names that become one, the first is taken."""
    ours: dict[str, str] = {}
    dropped: dict[str, str] = {}
    left: list[str] = []
    for name in names:
        reached, why = _followed(name, rules)
        if reached is None:
            dropped[name] = why
        elif reached.startswith((BACKBONE, PRETEXT)) and reached not in ours:
            ours[reached] = name
        else:
            left.append(name)
    return Renamed(ours, dropped, left)


def _followed(name: str, rules: Sequence[Rule]) -> tuple[str | None, str]:
    for rule in rules:
        if not re.match(rule.match, name):
            continue
        if rule.do == "drop":
            return None, rule.why
        name = re.sub(rule.match, rule.name, name, count=1)
        if rule.do == "keep":
            break
    return name, ""


@dataclass(frozen=True)
class Coverage:
    """How the tensors of a file fit a network; all but `unexpected` and `dropped` are our names.

    Attributes:
        matched: tensors that are taken.
        missing: tensors of the network that the file lacks; outside the encoder they start afresh.
        wrong_shape: our name -> (in the file, expected).
        unexpected: tensors of the file that no rule speaks of.
        dropped: tensors of the file that are left out on purpose, and why.
        encoder: how many tensors of the declared encoder there are, and how many of them match.
    """

    matched: Mapping[str, str]  # our name -> the file's
    missing: Sequence[str]
    wrong_shape: Mapping[str, tuple[Shape, Shape]]
    unexpected: Sequence[str]
    dropped: Mapping[str, str]
    encoder: tuple[int, int]

    @property
    def complete(self) -> bool:
        """Every declared tensor of the encoder is there with its shape, and nothing has a wrong one."""
        expected, found = self.encoder
        return expected == found and not self.wrong_shape


def coverage(model: FoundationModel, found: Mapping[str, Shape], expected: Mapping[str, Shape]) -> Coverage:
    """Compare a file with a network.

    Args:
        found: shapes in the file, by the file's names.
        expected: shapes of the network and its pretext head, by our names.
    """
    names = renamed(found, model.rules)
    known = {ours: theirs for ours, theirs in names.ours.items() if ours in expected}
    wrong = {ours: (found[theirs], expected[ours]) for ours, theirs in known.items() if found[theirs] != expected[ours]}
    matched = {ours: theirs for ours, theirs in known.items() if ours not in wrong}
    declared = [name for name in expected if re.match(model.encoder, name)]
    return Coverage(
        matched=matched,
        missing=[name for name in expected if name not in known],
        wrong_shape=wrong,
        unexpected=[*names.left, *(theirs for ours, theirs in names.ours.items() if ours not in expected)],
        dropped=names.dropped,
        encoder=(len(declared), sum(name in matched for name in declared)),
    )
