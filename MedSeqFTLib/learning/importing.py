"""From a published checkpoint file to a foundation version of the workspace: wholly, or not at all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from MedSeqFTLib.errors import InputError, WorkspaceError
from MedSeqFTLib.learning.publishing import publish_foundation
from MedSeqFTLib.models.availability import shipped_file
from MedSeqFTLib.models.catalogue import BACKBONE, PRETEXT, FoundationModel, catalogue
from MedSeqFTLib.models.checkpoints import Checkpoint, one_line, read_checkpoint, write_tensors
from MedSeqFTLib.models.described import DescribedModel, description
from MedSeqFTLib.models.mapping import Coverage
from MedSeqFTLib.models.networks import build_backbone
from MedSeqFTLib.models.recognition import expected_tensors, incomplete, recognise, shapes
from MedSeqFTLib.models.weights import BACKBONE as BACKBONE_FILE
from MedSeqFTLib.models.weights import NOT_A_NETWORK, PRETEXT_HEAD
from MedSeqFTLib.workspace.files import sha256_of, storage_errors
from MedSeqFTLib.workspace.networks import NetworkSpec
from MedSeqFTLib.workspace.schema import ModelVersion, Origin
from MedSeqFTLib.workspace.workspace import Workspace

STARTER = "medseqft-starter"  # ships with MedSeqFT
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Imported:
    """What became of a file. `entry`: None for a model that is not of the catalogue and describes itself."""

    version: ModelVersion
    coverage: Coverage
    entry: FoundationModel | None


@dataclass(frozen=True)
class _Content:
    """A file's tensors by its own names, what they are, and how they fit."""

    described: DescribedModel
    tensors: Mapping[str, Tensor]
    coverage: Coverage
    entry: FoundationModel | None


def import_foundation(
    workspace: Workspace,
    path: Path,
    *,
    model: str | None = None,
    name: str | None = None,
    accept_hash: bool = False,
    progress: Progress = lambda text: None,
) -> Imported:
    """Publish the model that a checkpoint file holds as a foundation version.

    Args:
        path: a file that an entry of the catalogue speaks of, or one that `export_foundation` wrote.
        model: the catalogue's id of the model; None: it is recognised by its tensors.
        name: the version to make, such as M3; None: the next free one.
        accept_hash: take a file whose SHA-256 is not the published one.
        progress: told what is being done.

    Raises:
        InputError: the file cannot be used, does not hold the whole encoder, or is not the published one; the version
            exists. Nothing was changed.
        StorageError: the workspace cannot be written, for instance because the disk is full. Nothing was changed.
    """
    if name is not None and workspace.version_folder(name).exists():
        raise InputError(f"Model version {name} exists already; versions are never rewritten.")
    progress("reading")
    checkpoint = read_checkpoint(path)
    content = _content(path, checkpoint, model)
    progress("comparing with the published file")
    sha256 = sha256_of(path)
    if content.entry is not None and not accept_hash:
        _check_published(path, sha256, content.entry)
    progress("converting")
    tensors, fresh = _tensors(path, content)
    progress("writing")
    origin = _origin(path, sha256, content, tensors, fresh)
    return Imported(_published(workspace, name, content, tensors, origin), content.coverage, content.entry)


def import_starter(workspace: Workspace) -> ModelVersion:
    """The starter model that ships with MedSeqFT, as a foundation version.

    Raises:
        WorkspaceError: this installation lacks it.
        StorageError: the workspace cannot be written.
    """
    path = shipped_file(catalogue().model(STARTER))
    if path is None:
        raise WorkspaceError("The starter model is missing in this installation; install MedSeqFT again.")
    return import_foundation(workspace, path, model=STARTER).version


def _content(path: Path, checkpoint: Checkpoint, model: str | None) -> _Content:
    described = description(path, checkpoint.metadata)
    if described is not None:
        return _described_content(path, checkpoint, described, model)
    found = recognise(path, checkpoint, model)
    entry = found.entry
    described = DescribedModel(
        model=entry.id,
        title=entry.title,
        licence=entry.licence,
        network=entry.network,
        pretext=entry.pretext,
        lora=entry.lora,
        input=entry.input,
        origin=None,
        note=f"{entry.title}, imported from {path.name}.",
    )
    return _Content(described, found.tensors, found.coverage, entry)


def _described_content(path: Path, checkpoint: Checkpoint, described: DescribedModel, model: str | None) -> _Content:
    """A file that says what it is must hold exactly that."""
    if model is not None and model != described.model:
        raise InputError(f"{path} says that it holds {described.model}, not {model}.")
    try:
        expected = shapes(expected_tensors(described.network, described.pretext))
    except NOT_A_NETWORK as error:
        raise InputError(f"{path} describes a network that cannot be built ({one_line(error)}).") from error
    found = shapes(checkpoint.tensors)
    matched = {name: name for name in found if expected.get(name) == found[name]}
    fit = Coverage(
        matched=matched,
        missing=[name for name in expected if name not in found],
        wrong_shape={n: (found[n], expected[n]) for n in found if n in expected and n not in matched},
        unexpected=[name for name in found if name not in expected],
        dropped={},
        encoder=(len(expected), len(matched)),
    )
    if not fit.complete:
        raise InputError(f"{path} {incomplete(described.model, fit, '')} Nothing was imported.")
    named = [file.name for entry in catalogue().models if entry.id == described.model for file in entry.files]
    entry = catalogue().model(described.model) if path.name in named else None  # others may export under this name
    return _Content(described, checkpoint.tensors, fit, entry)


def _check_published(path: Path, sha256: str, entry: FoundationModel) -> None:
    """Refuse a file that is not the published one, where that is known. A renamed file may be any of the entry's."""
    named = [file for file in entry.files if file.name == path.name] or entry.files
    published = [file.sha256 for file in named]
    if sha256 not in published and None not in published:
        raise InputError(
            f"{path} is not the file that {entry.publisher} published as {entry.title}: its SHA-256 is {sha256}, "
            f"expected {', '.join(filter(None, published))}. Get it again from {entry.page}; if you know why it "
            "differs and trust it, add --accept-hash."
        )


def _tensors(path: Path, content: _Content) -> tuple[dict[str, Tensor], list[str]]:
    """Every tensor of the version by our names, and the names of those that the file lacks.

    A pretext head of which anything is missing is left out as a whole: a random one would select at random.
    """
    described, matched = content.described, content.coverage.matched
    expected = expected_tensors(described.network, described.pretext)
    wanted = [name for name in expected if name.startswith(BACKBONE) or _has_pretext(content)]
    fresh = [name for name in wanted if name not in matched]
    beginning = _beginning(described.network) if fresh else {}
    taken: dict[str, Tensor] = {}
    storages: set[int] = set()
    for name in wanted:
        if name not in matched:
            taken[name] = beginning[name]
            continue
        tensor = _converted(path, matched[name], content.tensors[matched[name]], expected[name])
        storage = tensor.untyped_storage()
        if storage.nbytes() != tensor.nbytes or storage.data_ptr() in storages:
            tensor = tensor.clone()  # a file may store several tensors as one
        storages.add(tensor.untyped_storage().data_ptr())
        taken[name] = tensor
    return taken, fresh


def _has_pretext(content: _Content) -> bool:
    """True if the file has the whole pretext head."""
    pretext = content.described.pretext
    return pretext is not None and not any(name.startswith(PRETEXT) for name in content.coverage.missing)


def _beginning(network: NetworkSpec) -> dict[str, Tensor]:
    """A freshly initialised network, always the same."""
    return {BACKBONE + name: tensor for name, tensor in build_backbone(network, seed=0).state_dict().items()}


def _converted(path: Path, name: str, tensor: Tensor, wanted: Tensor) -> Tensor:
    """A file's tensor in the type that the network computes in, contiguous. Refuses what is no finite number."""
    if tensor.is_complex() or tensor.is_floating_point() != wanted.is_floating_point():
        raise InputError(f"{path} holds {name} as {tensor.dtype}, expected {wanted.dtype}.")
    converted = tensor.to(wanted.dtype).contiguous()
    extremes = torch.aminmax(converted) if converted.numel() else ()  # NaN comes through, and nothing is copied
    if not all(torch.isfinite(extreme) for extreme in extremes):
        raise InputError(f"{path} holds values in {name} that are no finite numbers (NaN or infinite).")
    return converted


def _origin(path: Path, sha256: str, content: _Content, tensors: Mapping[str, Tensor], fresh: list[str]) -> Origin:
    matched = content.coverage.matched
    unused = [theirs for ours, theirs in matched.items() if ours not in tensors]
    return Origin(
        model=content.described.model,
        title=content.described.title,
        licence=content.described.licence,
        file=path.name,
        size=path.stat().st_size,
        sha256=sha256,
        matched=len(matched) - len(unused),
        fresh=tuple(fresh),
        left_out=(*unused, *content.coverage.dropped, *content.coverage.unexpected),
    )


def _published(
    workspace: Workspace, name: str | None, content: _Content, tensors: Mapping[str, Tensor], origin: Origin
) -> ModelVersion:
    described = content.described
    pretext = described.pretext if _has_pretext(content) else None
    with workspace.staging() as folder:
        for file, prefix in {BACKBONE_FILE: BACKBONE, **({PRETEXT_HEAD: PRETEXT} if pretext else {})}.items():
            part = {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}
            with storage_errors(folder / file):
                write_tensors(part, folder / file, {"format": "pt"})
        return publish_foundation(
            workspace,
            folder,
            described.network,
            _note(described),
            name=name,
            pretext=pretext,
            lora=described.lora,
            input=described.input,
            origin=origin,
        )


def _note(described: DescribedModel) -> str:
    """What is told of the version; the note of a file that was exported before begins with the title already."""
    title, note = described.title, described.note
    return note if note.startswith(title) else f"{title}. {note}"
