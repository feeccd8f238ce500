"""The corrections of a task as tables and charts: see MedSeqFTLib.evaluation.drift."""

from __future__ import annotations

from collections.abc import Sequence

from MedSeqFTLib.evaluation.bootstrap import SHARE
from MedSeqFTLib.evaluation.charts import Drawing, Scale, short
from MedSeqFTLib.evaluation.drift import Corrected, Drift
from MedSeqFTLib.evaluation.tables import Column, Table

_LEFT, _RIGHT, _BOTTOM, _TOP = 46, 512, 186, 14  # of the axes, in a drawing of 520 x 230


def version_table(found: Drift) -> Table:
    """A row for each version."""
    columns = (
        Column("Version"),
        Column("Cases", "count"),
        Column("Dice", "share", interval=True),
        Column("Changed voxels", "share"),
        Column("Surface", "mm"),
        Column("Confidence", "share"),
        Column("Time", "seconds"),
    )
    rows = tuple((v.version, v.cases, v.dice, v.changed, v.surface, v.confidence, v.seconds) for v in found.versions)
    caption = (
        "What was corrected in the proposals of each version: Dice of proposal and accepted segmentation (mean, "
        f"{SHARE} % interval over cases), share of labelled voxels that were changed, mean distance of the surfaces, "
        "mean confidence, median time."
    )
    return Table("corrections", f"Corrections of {found.task}", caption, columns, rows)


def case_table(found: Drift) -> Table:
    """A row for each case that counts, with the Dice of each label."""
    labels = list(dict.fromkeys(name for c in found.cases if c.correction for name in c.correction.dice))
    columns = (
        *(Column(name) for name in ("Case", "Role", "Version", "Accepted")),
        Column("Dice", "share"),
        *(Column(f"Dice {name}", "share") for name in labels),
        Column("Changed voxels", "share"),
        Column("Surface", "mm"),
        Column("Confidence", "share"),
        Column("Time", "seconds"),
    )
    rows = tuple(_case_row(case, labels) for case in found.cases)
    return Table("corrected-cases", f"Corrected cases of {found.task}", "The oldest first.", columns, rows)


def _case_row(case: Corrected, labels: Sequence[str]) -> tuple[str | float | None, ...]:
    dice = case.correction.dice if case.correction else {}
    changed = case.correction.changed if case.correction else None
    return (
        *(case.case, case.role, case.version, f"{case.accepted:%Y-%m-%d %H:%M}", case.dice),
        *(dice.get(label) for label in labels),
        *(changed, case.surface, case.confidence, case.seconds),
    )


def version_chart(found: Drift) -> str:
    """Dice of proposal and accepted segmentation: an open dot for each case; for each version mean and interval."""
    drawing = Drawing(520, 230, _version_words(found))
    y = _dice_scale(found)
    _rule(drawing, y)
    width = (_RIGHT - _LEFT) / max(len(found.versions), 1)
    means = []
    for number, version in enumerate(found.versions):
        middle = _LEFT + (number + 0.5) * width
        own = [case for case in found.cases if case.version == version.version]
        for place, case in enumerate(own):
            across = middle + (place - (len(own) - 1) / 2) * min(10, 0.7 * width / len(own))
            drawing.dot((across, y(case.dice)), 3, "left-out", f"{case.case}: {case.dice:.3f}")
        means.append((middle, y(version.dice.mean)))
        drawing.write((middle, _BOTTOM + 22), f"{version.version} ({version.cases})", "muted", "middle")
    drawing.path(means, "line-0 pale")
    for version, mean in zip(found.versions, means, strict=True):
        if version.cases > 1:
            drawing.line((mean[0], y(version.dice.low)), (mean[0], y(version.dice.high)), "interval kept")
        drawing.dot(mean, 5, "kept", f"{version.version}: mean {version.dice.mean:.3f}")
    return drawing.text()


def _version_words(found: Drift) -> str:
    means = ", ".join(f"{version.version} {version.dice.mean:.3f}" for version in found.versions)
    return f"Mean Dice of proposal and accepted segmentation: {means or 'no case yet'}"


def confidence_chart(found: Drift) -> str:
    """Confidence across, Dice of proposal and accepted segmentation up: a dot for each case."""
    known = [(case.confidence, case) for case in found.cases if case.confidence is not None]
    drawing = Drawing(520, 230, f"Confidence and Dice of {len(known)} cases. {found.confidence}")
    if not known:
        drawing.write((260, 115), "no confidence is known", "muted", "middle")
        return drawing.text()
    y, (low, high) = _dice_scale(found), _bounds([confidence for confidence, _ in known])
    x = Scale(low, high, _LEFT + 8, _RIGHT - 8)
    _rule(drawing, y)
    for tick in x.ticks():
        drawing.write((x(tick), _BOTTOM + 22), short(tick), "muted", "middle")
    for confidence, case in known:
        drawing.dot((x(confidence), y(case.dice)), 4, "kept", f"{case.case}: {confidence:.3f}, {case.dice:.3f}")
    return drawing.text()


def _rule(drawing: Drawing, y: Scale) -> None:
    for tick in y.ticks():
        drawing.line((_LEFT, y(tick)), (_RIGHT, y(tick)), "grid")
        drawing.write((_LEFT - 6, y(tick) + 4), short(tick), "muted", "end")


def _dice_scale(found: Drift) -> Scale:
    ends = [end for version in found.versions for end in (version.dice.low, version.dice.high)]
    return Scale(*_bounds([*(case.dice for case in found.cases), *ends]), _BOTTOM, _TOP)


def _bounds(values: Sequence[float]) -> tuple[float, float]:
    """A little more than the values take, within 0..1."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    room = max(0.1 * (high - low), 0.01)
    return max(0.0, low - room), min(1.0, high + room)
