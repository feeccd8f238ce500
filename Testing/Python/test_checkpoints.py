"""Checkpoint files of strangers: what is read, what is refused, and that nothing in them is ever run."""

from __future__ import annotations

import datetime
import os
import pickle
import struct
import sys
import zipfile
from argparse import Namespace
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from MedSeqFTLib.errors import InputError, StorageError
from MedSeqFTLib.models import checkpoints
from MedSeqFTLib.models.checkpoints import read_checkpoint, write_tensors
from MedSeqFTLib.workspace.files import storage_errors


def some_tensors() -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(0)
    return {f"layer{i}.weight": torch.randn((4, 3), generator=random) for i in range(5)}


def save_zip(content: object, path: Path) -> Path:
    torch.save(content, path)
    return path


def save_legacy(content: object, path: Path) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=False)
    return path


@pytest.mark.parametrize("save", [save_zip, save_legacy])
def test_torch_files_of_both_formats(tmp_path: Path, save: Callable[[object, Path], Path]) -> None:
    tensors = some_tensors()
    read = read_checkpoint(save({"state_dict": tensors, "ema": {"net": tensors}, "epoch": 3}, tmp_path / "a.pth"))
    assert read.metadata == {}
    assert read.within(("state_dict",)).keys() == read.within(("ema", "net")).keys() == tensors.keys()
    assert all(torch.equal(found, tensors[name]) for name, found in read.within(("state_dict",)).items())
    assert "ema.net.layer0.weight" in read.tensors
    assert read.within(("model",)) == {}


def test_safetensors_files_whatever_their_name(tmp_path: Path) -> None:
    tensors = some_tensors()
    save_file(tensors, tmp_path / "a.pth", metadata={"about": "text"})
    read = read_checkpoint(tmp_path / "a.pth")
    assert read.metadata == {"about": "text"}
    assert all(torch.equal(found, tensors[name]) for name, found in read.tensors.items())


#: What training scripts leave in their files, none of it a tensor.
LEFTOVERS = {
    "args": Namespace(lr=1e-4, output=Path("runs") / "a"),
    "metrics": defaultdict(list, loss=[np.float64(0.5), np.float32(1)]),
    "table": np.arange(6.0).reshape(2, 3),
    "date": datetime.datetime(2024, 5, 1),
    "kind": np.float32,
    "shape": torch.Size([1, 2]),
    7: "seven",
}


@pytest.mark.parametrize("save", [save_zip, save_legacy])
def test_leftovers_of_training_are_ignored(tmp_path: Path, save: Callable[[object, Path], Path]) -> None:
    read = read_checkpoint(save({"model": some_tensors(), **LEFTOVERS}, tmp_path / "a.pt"))
    assert read.tensors.keys() == {f"model.{name}" for name in some_tensors()}


class Payload:
    """Is unpickled, without care, by calling a function with these arguments; `more` as in the pickle protocol."""

    def __init__(self, function: Callable[..., Any], arguments: tuple[object, ...], *more: object) -> None:
        self.call = function, arguments, *more

    def __reduce__(self) -> Any:
        return self.call


def save_pickle(protocol: int) -> Callable[[object, Path], Path]:
    def save(content: object, path: Path) -> Path:
        path.write_bytes(pickle.dumps(content, protocol=protocol))
        return path

    return save


def save_zip_of_protocol_4(content: object, path: Path) -> Path:
    torch.save(content, path, pickle_protocol=4)
    return path


SAVES = [save_zip, save_legacy, save_zip_of_protocol_4, save_pickle(2), save_pickle(4)]


@pytest.mark.parametrize("save", SAVES)
@pytest.mark.parametrize(
    ("function", "argument", "named"),
    [
        (os.system, "touch {}", f"{os.system.__module__}.system"),
        (eval, "open({!r}, 'w').write('caught')", "eval"),
        (os.makedirs, "{}", "os.makedirs"),
        (open, "{}", "open"),
    ],
)
def test_code_is_refused_by_name_and_never_run(
    tmp_path: Path, save: Callable[[object, Path], Path], function: Callable[..., Any], argument: str, named: str
) -> None:
    trace = tmp_path / "trace"
    content = {"state_dict": some_tensors(), "extra": Payload(function, (argument.format(str(trace)),))}
    path = save(content, tmp_path / "bad.pt")
    with pytest.raises(InputError, match=named) as caught:
        read_checkpoint(path)
    assert "could run code" in str(caught.value)
    assert "safetensors" in str(caught.value)
    assert not trace.exists()


class Net(nn.Linear):
    """A class of somebody's training script."""


def test_a_whole_pickled_network_is_refused_by_its_class(tmp_path: Path) -> None:
    path = save_zip(Net(2, 2), tmp_path / "model.pt")
    with pytest.raises(InputError, match=rf"asks for {__name__}\.Net: .* nothing but the state dict"):
        read_checkpoint(path)


def test_harmless_classes_do_nothing(tmp_path: Path) -> None:
    """Not even what the real classes would do with such arguments."""
    read = read_checkpoint(save_zip({"a": torch.ones(2), "b": Payload(list, ("text",))}, tmp_path / "a.pt"))
    assert read.tensors.keys() == {"a"}


def unreadable_files(folder: Path) -> dict[str, tuple[Path, str]]:
    """Files that are no checkpoints, by what is wrong with them, and a part of the message."""
    good = save_zip({"state_dict": some_tensors()}, folder / "good.pt").read_bytes()
    legacy = save_legacy({"state_dict": some_tensors()}, folder / "legacy.pt").read_bytes()
    save_file(some_tensors(), folder / "good.safetensors")
    tensors = (folder / "good.safetensors").read_bytes()
    contents = {
        "empty": (b"", "is empty"),
        "random": (np.random.default_rng(0).bytes(5000), "no checkpoint"),
        "text": (b"<html>404: not found</html>", "no checkpoint"),
        "zip without its end": (good[:-300], "damaged"),
        "half a zip": (good[: len(good) // 2], "damaged"),
        "two letters": (b"PK", "damaged"),
        "half of an older file": (legacy[: len(legacy) // 2], "damaged"),
        "older file without its end": (legacy[:-5], "damaged"),
        "half a safetensors file": (tensors[: len(tensors) // 2], "damaged"),
        "header bomb": (struct.pack("<Q", 1 << 60) + b"{" + b" " * 500, "damaged"),
        "header that is no JSON": (struct.pack("<Q", 8) + b"{" * 8, "damaged"),
        "unending pickle": (b"\x80\x02" + b"(" * 1000, "damaged"),
    }
    files = {}
    for what, (content, message) in contents.items():
        files[what] = folder / f"{what}.pt", message
        files[what][0].write_bytes(content)
    return {**files, "folder": (folder, "is a folder"), "missing": (folder / "gone.pt", "No such file")}


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    for path, message in unreadable_files(tmp_path).values():
        with pytest.raises(InputError, match=message) as caught:
            read_checkpoint(path)
        assert str(path) in str(caught.value)


@pytest.mark.filterwarnings("ignore:.*torch.jit.*is deprecated")
def test_zip_archives_of_another_kind(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "pictures.zip", "w") as archive:
        archive.writestr("picture.png", b"1")
    with zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb/data.pkl", bytes(50_000_000))
    script = torch.jit.trace(nn.Linear(2, 2), torch.ones(1, 2))  # type: ignore[no-untyped-call]
    script.save(str(tmp_path / "script.pt"))
    for name, message in (("pictures.zip", "data.pkl"), ("bomb.pt", "packed"), ("script.pt", "TorchScript")):
        with pytest.raises(InputError, match=message):
            read_checkpoint(tmp_path / name)


@pytest.mark.skipif(sys.platform == "win32", reason="needs named pipes")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.pt")
    with pytest.raises(InputError, match="not a file"):
        read_checkpoint(tmp_path / "pipe.pt")


@pytest.mark.filterwarnings("ignore:.*quantize")  # PyTorch means to drop them
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: torch.eye(3).to_sparse(), "layer.weight as an unusual tensor"),
        (lambda: torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8), "layer.weight .* .quantised"),
        (lambda: torch.empty(3, device="meta"), "layer.weight as an unusual tensor .* meta"),
        (lambda: torch.ones(1).expand(1 << 40), "layer.weight claims to be larger than the file"),
    ],
)
def test_unusual_tensors_are_refused_by_name(tmp_path: Path, make: Callable[[], Tensor], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_checkpoint(save_zip({"layer": {"weight": make()}}, tmp_path / "a.pt"))


def test_containers_without_end(tmp_path: Path) -> None:
    loop: dict[str, Any] = {}
    loop["again"] = loop
    laughs: dict[str, Any] = {"a": torch.ones(1)}
    for _ in range(25):
        laughs = {str(i): laughs for i in range(10)}
    for content in (loop, laughs):
        with pytest.raises(InputError, match="no end"):
            read_checkpoint(save_zip(content, tmp_path / "a.pt"))


def test_what_is_attached_to_tensors_and_containers_is_left_behind(tmp_path: Path) -> None:
    tensors = some_tensors()
    tensors["layer0.weight"].numel = 7  # type: ignore[assignment, method-assign]
    path = save_zip(
        Payload(OrderedDict, (), {"items": "not a function"}, None, iter(tensors.items())), tmp_path / "a.pt"
    )
    read = read_checkpoint(path)
    assert read.tensors["layer0.weight"].numel() == 12
    assert type(read_checkpoint(save_zip({"a": nn.Parameter(torch.ones(2))}, tmp_path / "b.pt")).tensors["a"]) is Tensor


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("save", [save_zip, save_legacy])
def test_flipped_bytes_never_surprise(tmp_path: Path, save: Callable[[object, Path], Path]) -> None:
    good = save({"state_dict": some_tensors(), "args": Namespace(a=1)}, tmp_path / "a.pt").read_bytes()
    random = np.random.default_rng(1)
    refused = 0
    for number in range(300):
        bad = bytearray(good)
        for place in random.integers(0, len(bad) if number % 2 else 700, 3):
            bad[place] = random.integers(256)
        path = tmp_path / "flipped.pt"
        path.unlink(missing_ok=True)
        path.write_bytes(bad)
        try:
            read_checkpoint(path)
        except InputError:
            refused += 1
    assert refused


def test_disk_full_while_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(checkpoints, "save_file", full)
    with pytest.raises(StorageError, match="disk is full"), storage_errors(tmp_path / "a"):
        write_tensors(some_tensors(), tmp_path / "a", {})
