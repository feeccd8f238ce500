"""The chain of the audit log: which lines can be believed, where it is broken. A damaged line hides none after it.

A line is believed if the line after it is believed and holds its hash, or else if it fits its own checksum.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from MedSeqFTLib.errors import WorkspaceError
from MedSeqFTLib.workspace.audit import AUDIT_FILE, FIRST, AuditEntry
from MedSeqFTLib.workspace.audit_head import AuditHead

_BROKEN = "The chain of hashes is broken there."


@dataclass(frozen=True)
class Chain:
    """What a check of all lines found. Lines are told by their places in the file: 1, 2, 3, ..."""

    entries: tuple[AuditEntry | None, ...]  # one for each line; None: it is not believed
    head: str  # SHA-256 of the newest line
    breaks: tuple[tuple[str, int], ...]  # "damaged", "altered" or "missing"; all such lines are before this place
    problems: tuple[str, ...]

    def doubt(self, place: int) -> str:
        """What befell lines after this one, which may have told more: "damaged or missing"; "" if nothing did."""
        return " or ".join(kind for kind, end in self.breaks if place < end)


def check_chain(read: Iterable[tuple[AuditEntry | WorkspaceError, str]], kept: AuditHead | None) -> Chain:
    """Check lines, oldest first, each with its hash, against one another and against what is known of the newest."""
    check = _Check(read)
    check.judge_each()
    newest = check.compare_links()
    breaks = {befell: place for place, (befell, _) in sorted(check.found.items())}
    problems = [problem for _, (_, problem) in sorted(check.found.items())]
    if problem := check.problem_of(kept, newest):
        problems.append(f"{AUDIT_FILE}: {problem}.")
        breaks["missing"] = len(check.entries) + 1
    head = check.hashes[-1] if check.hashes else FIRST
    return Chain(tuple(check.entries), head, tuple(sorted(breaks.items())), tuple(problems))


class _Check:
    """Lists of entries and of hashes, not one of pairs: nothing is kept for a good line that the log does not need."""

    def __init__(self, read: Iterable[tuple[AuditEntry | WorkspaceError, str]]) -> None:
        self.entries: list[AuditEntry | None] = []
        self.hashes: list[str] = []
        self.found: dict[int, tuple[str, str]] = {}  # place -> what befell the line or those before it, and what to say
        for place, (entry, sha256) in enumerate(read, start=1):
            self.hashes.append(sha256)
            if isinstance(entry, AuditEntry):
                self.entries.append(entry)
            else:
                self.entries.append(None)
                self.found[place] = "damaged", str(entry)

    def judge_each(self) -> None:
        """Decide which lines are believed, from the newest to the oldest."""
        held = ""  # the hash of this line that a believed line after it holds
        for place in range(len(self.entries), 0, -1):
            entry, is_held = self.entries[place - 1], self.hashes[place - 1] == held
            if entry and (is_held or entry.is_as_written):
                held = entry.previous
            else:
                held = ""
                self._name(place, entry, is_held)

    def _name(self, place: int, entry: AuditEntry | None, is_held: bool) -> None:
        """Say what befell a line that is not believed, and whether the chain is broken there."""
        if entry is None:
            befell, problem = self.found[place]
            self.found[place] = befell, problem if is_held else f"{problem} {_BROKEN}"
        else:
            problem = f"{AUDIT_FILE}, line {place}: it was altered: its text does not fit its checksum. {_BROKEN}"
            self.entries[place - 1], self.found[place] = None, ("altered", problem)

    def compare_links(self) -> int:
        """Compare each believed line with the believed one before it. Returns the number of the newest line."""
        number, sha256, between = 0, FIRST, 0  # of the believed line before; damaged lines after it
        for place, (entry, own) in enumerate(zip(self.entries, self.hashes, strict=True), start=1):
            if entry is None:
                between += 1
                continue
            if entry.previous != sha256 or entry.number != number + 1:
                self._name_break(place, entry.number - number - 1, between)
            number, sha256, between = entry.number, own, 0
        return number + between

    def _name_break(self, place: int, gap: int, between: int) -> None:
        if 0 < gap <= between:  # as many as are damaged, or less: a line that was torn in two counts as two
            return
        befell = "missing" if gap > between else "altered"
        self.found[place] = befell, f"{AUDIT_FILE}, line {place}: a line before it was altered or taken out."

    def problem_of(self, kept: AuditHead | None, newest: int) -> str:
        """What is wrong with the newest lines, as far as no line is named for it; "" if nothing is."""
        if kept is None:
            return ""
        index = len(self.entries) - 1 - (newest - kept.lines)
        if not 0 <= index < len(self.entries):
            return kept.problem(newest, "")
        return kept.problem(newest, self.hashes[index] if self.entries[index] else kept.sha256)
