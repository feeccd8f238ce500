"""Running kinds of fault, and the table of what came out."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from Faults.bench import Kind
from Faults.checks import Lost


@dataclass
class Row:
    """One kind of fault."""

    kind: str
    what: str
    survived: int = 0
    lost: list[str] = field(default_factory=list)
    skipped: str = ""
    seconds: float = 0.0

    @property
    def tried(self) -> int:
        return self.survived + len(self.lost)


def tried(kind: Kind, limit: int | None, tell: Callable[[str], None] = print) -> Row:
    """Run the trials of a kind, at most `limit`, spread evenly over all of them."""
    row = Row(kind.name, kind.what, skipped=kind.unavailable)
    if row.skipped:
        return row
    begun = time.monotonic()
    for seed in seeds(kind.trials, limit):
        try:
            told = kind.run(seed)
            row.survived += 1
            tell(f"{kind.name} {seed}: survived. {told}")
        except Lost as lost:
            row.lost.append(f"{kind.name} {seed}: {lost}")
            tell(f"{kind.name} {seed}: LOST. {lost}")
    row.seconds = time.monotonic() - begun
    return row


def seeds(trials: int, limit: int | None) -> Sequence[int]:
    """All, or `limit` of them spread evenly."""
    if limit is None or limit >= trials:
        return range(trials)
    return [i * trials // limit for i in range(limit)]


def markdown(rows: Sequence[Row]) -> str:
    """The table; "lost" must be 0."""
    lines = ["| Fault | Tried | Survived | Lost | Seconds |", "|---|---|---|---|---|"]
    for row in rows:
        if row.skipped:
            lines.append(f"| {row.kind} | not tried: {row.skipped} | | | |")
        else:
            lines.append(f"| {row.kind} | {row.tried} | {row.survived} | {len(row.lost)} | {row.seconds:.0f} |")
    total = sum(row.tried for row in rows), sum(row.survived for row in rows), sum(len(row.lost) for row in rows)
    lines.append("| **all** | " + " | ".join(f"**{number}**" for number in total) + f" | {_seconds(rows):.0f} |")
    return "\n".join(lines)


def _seconds(rows: Sequence[Row]) -> float:
    return sum(row.seconds for row in rows)


def explained(rows: Sequence[Row]) -> str:
    """What each kind does."""
    return "\n".join(f"- **{row.kind}**: {row.what}" for row in rows)
