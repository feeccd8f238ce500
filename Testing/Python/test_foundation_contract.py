"""What every model of the catalogue must do, from its file's own names to a prediction; on networks of tiny width.

The files are made here: random numbers under the names of the published checkpoint (fixtures/foundation), in the shapes
of a network with the same layers but few channels.
"""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import pytest
import torch
from peft.tuners.lora.layer import LoraLayer
from safetensors.torch import load_file
from torch import Tensor

from MedSeqFTLib.learning import importing
from MedSeqFTLib.learning.importing import Imported, import_foundation
from MedSeqFTLib.learning.retention import feature_distance
from MedSeqFTLib.models import recognition
from MedSeqFTLib.models.backbone import Backbone, Features
from MedSeqFTLib.models.catalogue import Catalogue, FoundationModel, catalogue
from MedSeqFTLib.models.head import build_head
from MedSeqFTLib.models.lora import attach_lora, merge
from MedSeqFTLib.models.mapping import coverage, renamed
from MedSeqFTLib.models.networks import build_backbone
from MedSeqFTLib.models.pretext import build_pretext
from MedSeqFTLib.models.recognition import expected_tensors, shapes
from MedSeqFTLib.models.weights import load_backbone, load_pretext
from MedSeqFTLib.workspace.workspace import Workspace

FIXTURES = Path(__file__).parent / "fixtures" / "foundation"
STARTER = "medseqft-starter"
MODELS = [model.id for model in catalogue().models if model.id != STARTER]
CLASSES, STEPS = 3, 3
#: The fewest channels that the layers allow; depths stay, since they make the names.
NETWORKS: Mapping[str, dict[str, Any]] = {
    "swin-unetr": {"feature_size": 12},
    "segresnet": {"filters": 8},
    "genesis-unet": {"base": 4},
    "stu-net": {"channels": (2, 4, 4, 4, 4, 4)},
    "residual-encoder-unet": {"channels": (2, 4, 4, 4, 4, 4)},
    "vit": {"width": 24, "heads": 2, "decoder_features": 4, "grid": (1, 2, 2), "positions": 16},
}
PRETEXTS: Mapping[str, dict[str, Any]] = {
    "masked-reconstruction": {},
    "swin-ssl": {"embedding": 8, "crop": (32, 32, 32)},
    "voco": {"base": (1, 1, 2), "crop": (64, 32, 64), "queries": 1},
    "token-mae": {"width": 16, "heads": 2},
}
#: Voxels, z, y, x, such that more than one is left at the lowest resolution, which normalisation needs.
IMAGES: Mapping[str, tuple[int, int, int]] = {
    "swin-unetr": (64, 32, 32),
    "segresnet": (16, 16, 16),
    "genesis-unet": (16, 16, 16),
    "stu-net": (32, 32, 32),
    "residual-encoder-unet": (64, 32, 32),
    "vit": (16, 32, 32),
}


def tiny(model: FoundationModel) -> FoundationModel:
    """The entry with few channels, and without the published file's SHA-256."""
    network = model.network.model_copy(update=NETWORKS[model.network.kind])
    pretext = model.pretext and model.pretext.model_copy(update=PRETEXTS[model.pretext.kind])
    if pretext is not None and pretext.kind == "voco" and pretext.width is not None:
        pretext = pretext.model_copy(update={"width": 16})
    files = tuple(file.model_copy(update={"sha256": None}) for file in model.files)
    return model.model_copy(update={"network": network, "pretext": pretext, "files": files})


def fixture(model: str) -> tuple[list[str], dict[str, tuple[int, ...]]]:
    """The container and the shapes, by name, of the published file."""
    found = json.loads((FIXTURES / f"{model}.json").read_text(encoding="utf-8"))
    return found["container"], {name: tuple(shape) for name, shape in found["tensors"].items()}


def random_tensors(model: FoundationModel, names: list[str]) -> dict[str, Tensor]:
    """Tensors under a file's names that fit the model's network; one number for those that it does not take."""
    modules: dict[str, torch.nn.Module] = {"backbone.": build_backbone(model.network, seed=7)}
    if model.pretext is not None:
        modules["pretext."] = build_pretext(model.pretext, model.network, seed=7)
    ours = {prefix + name: t for prefix, module in modules.items() for name, t in module.state_dict().items()}
    theirs = {theirs: name for name, theirs in renamed(names, model.rules).ours.items() if name in ours}
    random = torch.Generator().manual_seed(3)

    def value(name: str) -> Tensor:
        fitting = ours.get(theirs.get(name, ""), torch.zeros(1))
        noise = torch.randn(fitting.shape, generator=random) * 0.01
        return fitting + noise if fitting.is_floating_point() else fitting

    return {name: value(name) for name in names}


def write_checkpoint(path: Path, container: list[str], tensors: Mapping[str, Tensor]) -> Path:
    """A file as training scripts write it, with things around the tensors."""
    if container:
        content = reduce(lambda inner, key: {key: inner}, reversed(container), dict(tensors))
        torch.save({**content, "epoch": 3, "args": Namespace(lr=1e-4)}, path)
    else:
        torch.save(dict(tensors), path)
    return path


def distinct_first(what: Callable[[FoundationModel], Any]) -> list[Any]:
    """Every model; of those with the same value all but one are slow tests.

    Models that differ in width alone are the same network here, and learning takes its time.
    """
    first = {what(tiny(catalogue().model(model))): model for model in reversed(MODELS)}.values()
    return [pytest.param(model, marks=() if model in first else pytest.mark.slow) for model in MODELS]


@dataclass(frozen=True)
class Case:
    """One model of the catalogue, made tiny and imported."""

    model: FoundationModel
    tensors: Mapping[str, Tensor]  # in the file
    workspace: Workspace
    imported: Imported

    def image(self) -> Tensor:
        """A random prepared image of about the smallest size that the network takes."""
        sides = IMAGES[self.model.network.kind]
        return torch.rand((1, 1, *sides), generator=torch.Generator().manual_seed(5)) * 2 - 1

    def backbone(self) -> Backbone:
        return load_backbone(self.workspace, self.imported.version)


@pytest.fixture(scope="module", params=MODELS)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Case]:
    model = tiny(catalogue().model(request.param))
    folder = tmp_path_factory.mktemp(model.id)
    container, names = fixture(model.id)
    tensors = random_tensors(model, list(names))
    path = write_checkpoint(folder / "checkpoint.pt", container, tensors)
    workspace = Workspace.create(folder / "workspace")
    with pytest.MonkeyPatch.context() as patch:
        for module in (recognition, importing):
            patch.setattr(module, "catalogue", lambda: Catalogue(models=(model,)))
        imported = import_foundation(workspace, path)
    yield Case(model, tensors, workspace, imported)


@pytest.mark.parametrize("name", MODELS)
def test_published_names_and_shapes_fit_the_real_network(name: str) -> None:
    model = catalogue().model(name)
    container, found = fixture(name)
    assert tuple(container) == model.container
    fit = coverage(model, found, shapes(expected_tensors(model.network, model.pretext)))
    assert fit.complete
    assert fit.unexpected == []
    assert not [missing for missing in fit.missing if missing.startswith("pretext.")]


def test_encoder_is_the_files(case: Case) -> None:
    version, fit = case.imported.version, case.imported.coverage
    stored = load_file(case.workspace.version_folder(version.id) / "backbone.safetensors")
    encoder = [ours for ours in fit.matched if ours.startswith("backbone.")]
    assert fit.encoder[0] == fit.encoder[1] > 0
    for ours in encoder:
        assert torch.equal(stored[ours.removeprefix("backbone.")], case.tensors[fit.matched[ours]]), ours
    assert len(stored) == len(encoder) + len(version.origin.fresh if version.origin else ())
    assert (version.network, version.lora, version.input) == (case.model.network, case.model.lora, case.model.input)


@pytest.mark.parametrize("case", distinct_first(lambda model: (model.network, model.pretext)), indirect=True)
def test_pretext_loss_is_finite(case: Case) -> None:
    version = case.imported.version
    assert (version.pretext is None) == (case.model.pretext is None)
    if version.pretext is None:
        return
    pretext, backbone = load_pretext(case.workspace, version), case.backbone()
    crop = version.pretext.crop or case.image().shape[2:]
    crops = torch.rand((1, 1, *crop), generator=torch.Generator().manual_seed(1)) * 2 - 1
    with torch.inference_mode():
        loss = pretext(backbone, crops, [(0, 1)])
    assert loss.shape == (1,)
    assert torch.isfinite(loss).all()


@pytest.mark.parametrize("case", distinct_first(lambda model: model.network), indirect=True)
def test_the_encoder_alone_gives_what_it_gives_in_the_whole_network(case: Case) -> None:
    backbone, image = case.backbone().eval(), case.image()
    with torch.inference_mode():
        alone, whole = backbone.encoder_features(image), backbone(image).encoder
    assert all(torch.equal(a, w) for a, w in zip(alone, whole, strict=True))


@pytest.mark.parametrize("case", distinct_first(lambda model: model.network), indirect=True)
def test_full_training_lowers_the_loss(case: Case) -> None:
    """As in stage A, on logits [1, classes, z, y, x]."""
    backbone, head = case.backbone().train(), build_head(case.model.network, CLASSES, seed=0)
    optimizer = torch.optim.AdamW([*backbone.parameters(), *head.parameters()], lr=1e-3)
    image = case.image()
    target = (image[:, 0] > 0).long()
    losses = []
    for _ in range(STEPS):
        logits = head(backbone(image))
        assert logits.shape == (1, CLASSES, *image.shape[2:])
        loss = torch.nn.functional.cross_entropy(logits, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("case", distinct_first(lambda model: (model.network, model.lora)), indirect=True)
def test_every_adapter_learns_and_merges(case: Case) -> None:
    """As in stage B: imitate other features, in the adapters alone."""
    image, random = case.image(), torch.Generator().manual_seed(9)
    student = attach_lora(case.backbone(), 2, 4, 0, layers=case.model.lora)
    changes = [parameter for name, parameter in student.named_parameters() if "lora_B" in name]
    assert len(changes) == sum(isinstance(module, LoraLayer) for module in student.modules()) > 0
    optimizer = torch.optim.AdamW([p for p in student.parameters() if p.requires_grad], lr=1e-3)
    features = student(image)
    wanted = Features(
        tuple(level.detach() + 0.1 * torch.randn(level.shape, generator=random) for level in features.encoder),
        features.decoder.detach() + 0.1 * torch.randn(features.decoder.shape, generator=random),
    )
    losses = []
    for step in range(STEPS):
        loss = imitation(student(image) if step else features, wanted)
        optimizer.zero_grad()
        loss.backward()
        if step == 0:
            unreached = [change for change in changes if change.grad is None or not change.grad.any()]
            assert not unreached, f"{len(unreached)} of {len(changes)} adapters get no gradient"
        optimizer.step()
        losses.append(float(loss.detach()))
    with torch.inference_mode():
        before = student(image)
        after = merge(student)(image)
    assert float(imitation(before, wanted)) != losses[0]
    for one, other in zip((*before.encoder, before.decoder), (*after.encoder, after.decoder), strict=True):
        assert torch.allclose(one, other, rtol=1e-5, atol=1e-5)


def imitation(student: Features, teacher: Features) -> Tensor:
    return feature_distance(student.encoder, teacher.encoder) + (student.decoder - teacher.decoder).square().mean()
