"""Which model of the catalogue a checkpoint holds, and in plain words why it holds none of them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor, nn

from MedSeqFTLib.errors import InputError
from MedSeqFTLib.models.catalogue import BACKBONE, PRETEXT, FoundationModel, catalogue
from MedSeqFTLib.models.checkpoints import Checkpoint
from MedSeqFTLib.models.mapping import Coverage, Shape, coverage, renamed
from MedSeqFTLib.models.networks import build_backbone
from MedSeqFTLib.models.pretext import build_pretext
from MedSeqFTLib.workspace.networks import NetworkSpec, PretextSpec

_NAMED = 3  # of a list, the rest is counted


@lru_cache(maxsize=64)
def expected_tensors(network: NetworkSpec, pretext: PretextSpec | None) -> Mapping[str, Tensor]:
    """What a network and its pretext head consist of, by our names; without any numbers in it.

    Raises:
        InputError: a package that this network needs is not installed.
    """
    with torch.device("meta"):
        modules: dict[str, nn.Module] = {BACKBONE: build_backbone(network, 0)}
        if pretext is not None:
            modules[PRETEXT] = build_pretext(pretext, network, 0)
    return {prefix + name: t for prefix, module in modules.items() for name, t in module.state_dict().items()}


@dataclass(frozen=True)
class Recognised:
    """A model of the catalogue in a file. `tensors`: of the entry's container, by the file's names."""

    entry: FoundationModel
    tensors: Mapping[str, Tensor]
    coverage: Coverage


def recognise(path: Path, checkpoint: Checkpoint, model: str | None) -> Recognised:
    """The model of the catalogue whose encoder the file holds completely.

    Args:
        model: the only entry to try.

    Raises:
        InputError: the file holds none completely, or several; or a package is missing.
    """
    if not checkpoint.paths:
        raise InputError(f"{path} holds no tensors by name, so it is no checkpoint of a network.")
    entries = [catalogue().model(model)] if model else catalogue().models
    candidates, missing_package = _candidates(checkpoint, entries)
    fitting = [found for found in candidates if found.coverage.complete]
    published = [found for found in fitting if path.name in _file_names(found.entry)]
    if len(published or fitting) == 1:
        return (published or fitting)[0]
    if fitting:
        names = ", ".join(found.entry.id for found in fitting)
        raise InputError(f"{path} may be any of these models: {names}. Say which with --model.")
    if missing_package is not None:
        raise missing_package
    raise InputError(f"{path} {_why_none(checkpoint, candidates, model)} Nothing was imported.")


def _candidates(
    checkpoint: Checkpoint, entries: Iterable[FoundationModel]
) -> tuple[list[Recognised], InputError | None]:
    """Every entry some of whose names the file has; and what is missing here to know the others."""
    found, missing_package = [], None
    for entry in entries:
        tensors = checkpoint.within(entry.container) or checkpoint.tensors  # some save what was in the container alone
        names = renamed(tensors, entry.rules)
        if not names.ours and not names.dropped:
            continue
        try:
            expected = expected_tensors(entry.network, entry.pretext)
        except InputError as error:
            missing_package = error
            continue
        found.append(Recognised(entry, tensors, coverage(entry, shapes(tensors), shapes(expected))))
    return found, missing_package


def shapes(tensors: Mapping[str, Tensor]) -> dict[str, Shape]:
    """The shape of every tensor."""
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def _file_names(entry: FoundationModel) -> set[str]:
    return {file.name for file in entry.files}


def _why_none(checkpoint: Checkpoint, candidates: Collection[Recognised], model: str | None) -> str:
    nearest = max(candidates, key=_nearness, default=None)
    if nearest is not None and (_has_backbone(nearest.coverage) or _is_a_head(nearest.coverage)):
        return incomplete(nearest.entry.id, nearest.coverage, nearest.entry.encoder)
    names = sorted(checkpoint.tensors)
    which = f"the network of {model}" if model else "any network of the catalogue (see: medseqft models foundation)"
    return f"does not hold {which}; its {len(names)} tensors are named like {some(names)}."


def _nearness(found: Recognised) -> tuple[float, int]:
    declared, matched = found.coverage.encoder
    return matched / max(declared, 1), len(found.coverage.matched) + len(found.coverage.wrong_shape)


def _has_backbone(found: Coverage) -> bool:
    return any(name.startswith(BACKBONE) for name in (*found.matched, *found.wrong_shape))


def _is_a_head(found: Coverage) -> bool:
    return not _has_backbone(found) and len(found.unexpected) <= len(found.matched)


def incomplete(model: str, found: Coverage, encoder: str) -> str:
    """Why a file's coverage of a model is not enough, as the rest of a sentence that begins with the file.

    Args:
        encoder: a regular expression of the tensors that must be there.
    """
    declared, matched = found.encoder
    missing = [name for name in found.missing if re.match(encoder, name)]
    wrong = [f"{n} is {_sides(has)} instead of {_sides(wants)}" for n, (has, wants) in found.wrong_shape.items()]
    lists = {"missing": missing, "unexpected": found.unexpected, "wrong shape": wrong}
    parts = [f"is most like {model}, but {matched} of the {declared} tensors of its encoder match"]
    parts += [f"{what}: {some(names)}" for what, names in lists.items() if names]
    return "; ".join(parts) + f".{_cause(found)}"


def _cause(found: Coverage) -> str:
    """A recognisable cause as a sentence of its own, or nothing."""
    if _is_a_head(found):
        return " The file holds only the tensors of a head, without the network below it."
    for name, (has, wants) in found.wrong_shape.items():
        if len(has) == len(wants) == 5 and wants[1] == 1 and has[1] > 1 and has[2:] == wants[2:]:
            return f" The file's first convolution takes {has[1]} channels, this software feeds 1."
        if re.search(r"pos(ition)?s?(_?emb|$)|positions", name):
            return " It was trained for another patch size: its position embedding is of another grid."
    if 2 * len(found.wrong_shape) > found.encoder[0]:
        return " It is a network of this kind in another size."
    return ""


def _sides(shape: Shape) -> str:
    return "x".join(map(str, shape)) or "a single number"


def some(names: Iterable[str]) -> str:
    """The first few names, and how many more there are."""
    listed = list(names)
    rest = f" and {len(listed) - _NAMED} more" if len(listed) > _NAMED else ""
    return ", ".join(listed[:_NAMED]) + rest
