"""Readers of weights: safetensors, PyTorch's files of both formats, versions, adapters, checkpoints of jobs."""

from __future__ import annotations

import argparse
import io
import shutil
from collections import OrderedDict
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import torch
from mutations import mutated_archive, mutated_bytes, mutated_json, mutated_safetensors
from peft import PeftModel
from safetensors.torch import save
from samples import Reader, Sample, files_below

from MedSeqFTLib.learning import importing
from MedSeqFTLib.learning.training import read_checkpoint as read_training_checkpoint
from MedSeqFTLib.models.checkpoints import read_checkpoint
from MedSeqFTLib.models.described import KEY, DescribedModel
from MedSeqFTLib.models.lora import WEIGHTS, attach_lora, load_adapter, save_adapter
from MedSeqFTLib.models.networks import build_backbone
from MedSeqFTLib.models.weights import BACKBONE, load_backbone, load_memory, save_module
from MedSeqFTLib.workspace.files import sha256_of
from MedSeqFTLib.workspace.networks import ResidualUNetDescription
from MedSeqFTLib.workspace.schema import ModelVersion
from MedSeqFTLib.workspace.workspace import Workspace

NETWORK = ResidualUNetDescription(channels=(2, 4), decoder_features=2)
_MEMORY = "memory.safetensors"


def _state() -> dict[str, torch.Tensor]:
    return {f"backbone.{name}": tensor for name, tensor in build_backbone(NETWORK, 0).state_dict().items()}


def _described(_folder: Path) -> Sequence[Sample]:
    """What `models export-foundation` writes, and a file without a description."""
    text = DescribedModel(
        model="tiny", title="Tiny", licence="none", network=NETWORK, pretext=None, lora=".*", input=None, origin=None,
        note="",
    ).model_dump_json()  # fmt: skip
    state = _state()
    files = save(state, {"format": "pt", KEY: text}), save(state)
    plain = Sample({"m.safetensors": files[1]}, ("m.safetensors",), mutated_safetensors, readable=False)
    return [plain, Sample({"m.safetensors": files[0]}, ("m.safetensors",), _mutated_described(text.encode()))]


def _read_foundation(folder: Path, _sample: Sample) -> None:
    """What `import_foundation` does before it writes."""
    path = folder / "m.safetensors"
    importing._tensors(path, importing._content(path, read_checkpoint(path), None))


def _mutated_described(text: bytes) -> Any:
    """The description within the metadata within the header."""

    def mutated(random: Random, data: bytes) -> bytes:
        if random.random() < 0.3:
            return mutated_safetensors(random, data)
        changed = mutated_json(random, text).decode("utf-8", "replace")
        return save(_state(), {"format": "pt", KEY: changed})

    return mutated


def _foreign(_folder: Path) -> Sequence[Sample]:
    """What training scripts leave behind, in both formats of PyTorch."""
    state = OrderedDict(_state())
    content = {
        "state_dict": state, "epoch": 3, "args": argparse.Namespace(lr=1e-3), "best": torch.tensor(1.0),
        "bfloat": torch.ones(2, dtype=torch.bfloat16),
    }  # fmt: skip
    samples = []
    for new in (True, False):
        target = io.BytesIO()
        torch.save(content, target, _use_new_zipfile_serialization=new)
        mutate = mutated_archive if new else mutated_bytes
        samples.append(Sample({"m.pt": target.getvalue()}, ("m.pt",), mutate, "m.pt"))
    return [
        *samples,
        *(Sample({"m.pt": bomb}, ("m.pt",), mutated_bytes, "m.pt", readable=False) for bomb in pickle_bombs()),
    ]


def pickle_bombs() -> list[bytes]:
    """Few bytes that ask for much memory, or for code."""
    begin, end = b"\x80\x02", b"."
    gigabytes = b"(J\x00\x00\x00\x60tR"  # (1.6e9,) and REDUCE
    return [
        begin + b"cbuiltins\nbytearray\n" + gigabytes + end,
        begin + b"c__builtin__\nbytearray\n" + gigabytes + end,
        begin + b"ctorch\nFloatTensor\n" + gigabytes + end,
        begin + b"ccollections\nCounter\n" + b"(tR" + end,
        begin + b"cos\nsystem\n(X\x02\x00\x00\x00idtR" + end,
    ]


def _version(folder: Path) -> Sequence[Sample]:
    """A workspace with a version of a network, whose files are damaged and whose hashes are then made right."""
    workspace = Workspace.create(folder / "workspace")
    parts = folder / "parts"
    parts.mkdir()
    save_module(build_backbone(NETWORK, 0), parts / BACKBONE)
    (parts / _MEMORY).write_bytes(save({"importance": torch.ones(3)}))
    files = {path.name: sha256_of(path) for path in parts.iterdir()}
    version = ModelVersion(id="M0", kind="foundation", parent=None, task=None, job=None, network=NETWORK, files=files)
    workspace.publish(version, parts)
    shutil.rmtree(workspace.folder / "cache")
    (workspace.folder / "workspace.lock").unlink(missing_ok=True)
    found, at = files_below(workspace.folder), "models/M0/"
    return [
        Sample(found, (at + BACKBONE, at + _MEMORY), mutated_safetensors),
        Sample(found, (at + "version.json",), mutated_json),
    ]


def _read_version(folder: Path, _sample: Sample) -> None:
    workspace = Workspace.open(folder)
    version = workspace.version("M0")
    at = workspace.version_folder("M0")
    hashes = {name: sha256_of(at / name) for name in version.files if (at / name).is_file()}
    version = version.model_copy(update={"files": {**version.files, **hashes}})
    load_memory(workspace, version, _MEMORY)
    load_backbone(workspace, version)


def _adapter(folder: Path) -> Sequence[Sample]:
    save_adapter(_adapted(), folder / "adapter")
    files = files_below(folder)
    return [
        Sample(files, (f"adapter/{WEIGHTS}",), mutated_safetensors),
        Sample(files, ("adapter/adapter_config.json",), mutated_json),
    ]


def _read_adapter(folder: Path, _sample: Sample) -> None:
    load_adapter(_adapted(), folder / "adapter")


@cache
def _adapted() -> PeftModel:
    return attach_lora(build_backbone(NETWORK, 0), 2, 2, 0, "base")


def _training(_folder: Path) -> Sequence[Sample]:
    target = io.BytesIO()
    torch.save({"identity": "a", "step": 1, "modules": {"m": _state()}, "random": {"python": [3, [1], None]}}, target)
    return [Sample({"c.pt": target.getvalue()}, ("c.pt",), mutated_archive)]


READERS = (
    Reader("safetensors", _described, _read_foundation),
    Reader("PyTorch checkpoints", _foreign, lambda folder, _sample: read_checkpoint(folder / "m.pt"), reserves=True),
    Reader("weights of a version", _version, _read_version),
    Reader("LoRA adapter", _adapter, _read_adapter),
    Reader("training checkpoint", _training, lambda folder, _sample: read_training_checkpoint(folder / "c.pt")),
)
