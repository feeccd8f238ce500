"""Data sets in the layout of the Medical Segmentation Decathlon, or of nnU-Net: dataset.json, imagesTr, labelsTr.

The Decathlon's layout and what becomes of a data set are here; nnU-Net's layout is in nnunet.py.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from MedSeqFTLib.errors import InputError
from MedSeqFTLib.imaging.acceptance import accept
from MedSeqFTLib.imaging.dataset_json import CaseFiles, Description, Layout, read_description
from MedSeqFTLib.imaging.names import stem_of
from MedSeqFTLib.imaging.nnunet import NNUNET, is_nnunet
from MedSeqFTLib.imaging.volumes import pixel_sha256, read_volume
from MedSeqFTLib.workspace.cases import SameScanError
from MedSeqFTLib.workspace.files import explain
from MedSeqFTLib.workspace.labels import distinct_color
from MedSeqFTLib.workspace.names import name_from, same_name
from MedSeqFTLib.workspace.schema import Case, Label, Modality, Percentile, Role, Task, Window
from MedSeqFTLib.workspace.workspace import Workspace

_VALIDATION_SHARE = 0.2


@dataclass(frozen=True)
class Pair:
    """A scan and its reference label map."""

    case_id: str
    image: Path
    label_map: Path


@dataclass(frozen=True)
class DataSet:
    """What dataset.json declares. Every file of `pairs` (by case id) is known to exist."""

    task: Task
    pairs: tuple[Pair, ...]


def read_data_set(folder: Path, task_name: str | None = None) -> DataSet:
    """Read dataset.json and look for the files of its cases; the layout is recognised by the fields.

    Args:
        task_name: name of the task; by default the name in dataset.json, or else that of the folder.

    Raises:
        InputError: the description or a file is missing or unusable; the message names it.
    """
    description = read_description(Path(folder))
    layout = NNUNET if is_nnunet(description) else DECATHLON
    name = name_from(task_name or description.text("name", default=Path(folder).resolve().name), "task")
    modality = description.modality(layout.channels)
    try:
        task = Task(
            name=name,
            description=description.text("description", default=""),
            modality=modality,
            labels=_labels(layout.labels(description)),
            intensity=Window() if modality is Modality.CT else Percentile(),
        )
    except ValidationError as error:
        raise InputError(f"{description.path} cannot be used: {explain(error)}.") from error
    return DataSet(task, _pairs(layout.cases(description), description.path))


def _labels(found: dict[int, str]) -> tuple[Label, ...]:
    named = {value: " ".join(name.split()) for value, name in sorted(found.items()) if value != 0}
    return tuple(
        Label(value=value, name=name, color=distinct_color(position))
        for position, (value, name) in enumerate(named.items())
    )


def _pairs(cases: Iterable[CaseFiles], path: Path) -> tuple[Pair, ...]:
    pairs: dict[str, Pair] = {}
    for name, image, label_map in cases:
        pair = Pair(name_from(name, "case"), image, label_map)
        if pair.case_id.casefold() in pairs:
            raise InputError(f"{path}: two cases would both be named {pair.case_id}.")
        pairs[pair.case_id.casefold()] = pair
    return tuple(pairs.values())


def _decathlon_labels(description: Description) -> dict[int, str]:
    declared, path = description.fields.get("labels"), description.path
    if not isinstance(declared, dict):
        raise InputError(f'{path}: \'labels\' must map values to names, such as {{"0": "background", "1": "liver"}}.')
    found: dict[int, str] = {}
    for key, name in declared.items():
        if not re.fullmatch("[0-9]{1,3}", key) or not isinstance(name, str):
            raise InputError(f"{path}: label {key!r}: {name!r} must map a whole number to a name.")
        if int(key) in found:
            raise InputError(f"{path}: label value {int(key)} is declared twice.")
        found[int(key)] = name
    return found


def _decathlon_cases(description: Description) -> Iterator[CaseFiles]:
    entries, path = description.fields.get("training"), description.path
    if not isinstance(entries, list) or not entries:
        raise InputError(f"{path}: 'training' must list the cases, each with 'image' and 'label'.")
    for entry in entries:
        if not isinstance(entry, dict):
            raise InputError(f"{path}: an entry of 'training' must have 'image' and 'label', got {entry!r}.")
        where = "an entry of 'training'"
        image, label_map = (description.file(entry.get(field), field, where) for field in ("image", "label"))
        yield stem_of(image), image, label_map


DECATHLON = Layout("modality", _decathlon_labels, _decathlon_cases)


def split(pairs: tuple[Pair, ...], train: int | None, validation: int | None, seed: int) -> list[tuple[Pair, Role]]:
    """Draw disjoint training and validation cases; the same seed gives the same draw, and more training cases later.

    Args:
        train: how many training cases; by default all that are left.
        validation: how many held-out cases; by default a fifth of all pairs, at least one.

    Raises:
        InputError: there are not as many pairs.
    """
    held_out = max(1, round(_VALIDATION_SHARE * len(pairs))) if validation is None else validation
    trained = max(1, len(pairs) - held_out) if train is None else train
    if held_out + trained > len(pairs):
        raise InputError(
            f"The data set has {len(pairs)} cases, too few for {trained} training and {held_out} validation cases."
        )
    drawn = sorted(pairs, key=lambda pair: pair.case_id)
    random.Random(seed).shuffle(drawn)
    roles = [Role.VALIDATION] * held_out + [Role.TRAIN] * trained
    return list(zip(drawn, roles, strict=False))


@dataclass(frozen=True)
class Imported:
    """What became of one pair: `twice` means that another case has the same scan already, so it was left out."""

    pair: Pair
    outcome: Literal["added", "known", "twice"]
    case: Case | None = None
    note: str = ""


def import_cases(
    workspace: Workspace,
    wanted: Task,
    chosen: Sequence[tuple[Pair, Role]],
    by: str = "",
    near_duplicate_reason: str = "",
) -> Iterator[Imported]:
    """Accept the chosen pairs one after another; pairs that an earlier run has accepted are only compared.

    The task is added if the workspace has none of this name.

    Raises:
        InputError: the task differs from the stored one, a stored case has another role or scan, or a file cannot be
            used. Cases accepted before stay; running the import again goes on from there.
    """
    task = _stored_task(workspace, wanted)
    known = {case.id: case for case in workspace.cases(task=wanted.name)} if task else {}
    for pair, role in chosen:
        _refuse_new_role(known.get(pair.case_id), role)
    task = task or workspace.add_task(wanted)
    for done, (pair, role) in enumerate(chosen):
        try:
            if existing := known.get(pair.case_id):
                _refuse_other_scan(existing, pair)
                yield Imported(pair, "known", existing)
            else:
                case = accept(
                    workspace,
                    task,
                    pair.image,
                    pair.label_map,
                    role,
                    case_id=None if workspace.info.anonymous else pair.case_id,
                    by=by,
                    near_duplicate_reason=near_duplicate_reason,
                )
                yield Imported(pair, "added", case)
        except SameScanError as error:
            yield _met_again(workspace, pair, role, known, error)
        except InputError as error:
            raise InputError(f"{error} The {done} cases before it are imported; run again to go on.") from error


def _met_again(workspace: Workspace, pair: Pair, role: Role, known: dict[str, Case], error: SameScanError) -> Imported:
    """A scan that is in the task: in an anonymous workspace, that alone tells what an earlier run has imported."""
    if not (workspace.info.anonymous and error.case.id in known):
        return Imported(pair, "twice", note=f"{pair.image.name}: {error}")
    _refuse_new_role(error.case, role)
    return Imported(pair, "known", error.case)


def _stored_task(workspace: Workspace, wanted: Task) -> Task | None:
    stored = next((task for task in workspace.tasks() if same_name(task.name, wanted.name)), None)
    if stored is None:
        return None
    pinned = [
        (task.modality, {(label.value, label.name.casefold()) for label in task.labels}) for task in (stored, wanted)
    ]
    if pinned[0] != pinned[1]:
        raise InputError(
            f"The workspace has a task {stored.name} with another modality or other labels; choose another name."
        )
    return stored


def _refuse_new_role(existing: Case | None, role: Role) -> None:
    if existing is not None and existing.role is not role:
        raise InputError(
            f"Case {existing.id} is a {existing.role.value} case already and would become a {role.value} case; "
            "a role never changes. Use the seed and the number of validation cases of the first import."
        )


def _refuse_other_scan(existing: Case, pair: Pair) -> None:
    if pixel_sha256(read_volume(pair.image)) != existing.pixel_sha256:
        raise InputError(f"Task {existing.task} has another scan under the name {existing.id} than {pair.image}.")
