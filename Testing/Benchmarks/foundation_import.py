"""Time and memory of importing a foundation model, against plain PyTorch on the same file.

The peer: torch.load(weights_only=True) and load_state_dict into the built network. It ends with a network in memory;
ours also takes the file's SHA-256 and checks every number, and ends with a published version on disk. The file is made
here in the layout of SuPreM's SegResNet, with random numbers.

python Testing/Benchmarks/foundation_import.py [--filters 64] [--rounds 3]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import common
import torch

from MedSeqFTLib.learning import importing
from MedSeqFTLib.models import recognition
from MedSeqFTLib.models.catalogue import Catalogue, FoundationModel, catalogue
from MedSeqFTLib.models.networks import build_backbone
from MedSeqFTLib.workspace.workspace import Workspace

MODEL, PREFIX = "suprem-segresnet", "module."


def entry(filters: int) -> FoundationModel:
    """SuPreM's SegResNet in another width, without the published file's SHA-256."""
    model = catalogue().model(MODEL)
    files = tuple(file.model_copy(update={"sha256": None}) for file in model.files)
    network = model.network.model_copy(update={"filters": filters})
    return model.model_copy(update={"network": network, "files": files})


def write_file(path: Path, model: FoundationModel) -> None:
    state = build_backbone(model.network, 0).state_dict()
    tensors = {PREFIX + name.removeprefix("segresnet."): tensor for name, tensor in state.items()}
    torch.save({model.container[0]: tensors}, path)


def ours(file: str, folder: str, filters: int) -> Callable[[], None]:
    """Our import into a new workspace; everything that a process does only once is done before."""
    model = entry(filters)
    for module in (recognition, importing):
        module.catalogue = lambda: Catalogue(models=(model,))  # type: ignore[attr-defined]
    recognition.expected_tensors(model.network, model.pretext)
    workspace = Workspace.create(tempfile.mkdtemp(dir=folder))

    def run() -> None:
        importing.import_foundation(workspace, Path(file))

    return run


def peer(file: str, folder: str, filters: int) -> Callable[[], None]:
    """Plain PyTorch."""
    model = entry(filters)
    build_backbone(entry(8).network, 0)  # imports MONAI

    def run() -> None:
        backbone = build_backbone(model.network, 0)
        state = torch.load(file, map_location="cpu", weights_only=True)[model.container[0]]
        backbone.load_state_dict({"segresnet." + name.removeprefix(PREFIX): t for name, t in state.items()})

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--filters", type=int, default=64, help="width of the network; 64 makes a file of 290 MiB")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(2)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "checkpoint.pth"
        write_file(file, entry(options.filters))
        size = file.stat().st_size / 2**20
        arguments = (str(file), folder, options.filters)
        memory = {name: common.peak_memory(make, *arguments) for name, make in (("ours", ours), ("peer", peer))}
        seconds = common.in_turns({"ours": ours(*arguments), "peer": peer(*arguments)}, options.rounds)
    print(f"{common.machine()}; a file of {size:.0f} MiB")
    for name in ("ours", "peer"):
        print(f"{name}: {seconds[name]:6.2f} s, peak {memory[name]:7.1f} MiB, {memory[name] / size:.2f} times the file")
    print(f"time, ours to the peer's: {seconds['ours'] / seconds['peer']:.2f}")
    print(f"peak beyond the model itself: {memory['ours'] / size - 1:.2f} times the file (wanted: at most 1.3)")
    print(f"peak, ours to the peer's: {memory['ours'] / memory['peer']:.2f}")


if __name__ == "__main__":
    main()
