"""Published files as foundation versions: wholly or not at all, with a report of every tensor; and back into a file."""

from __future__ import annotations

import errno
import http.client
import io
import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request

import psutil
import pytest
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from typer.testing import CliRunner, Result
from workspace_samples import python, tree

from MedSeqFTLib.commands.app import app
from MedSeqFTLib.errors import InputError, StorageError, WorkspaceError
from MedSeqFTLib.learning import importing
from MedSeqFTLib.learning.exporting import export_foundation
from MedSeqFTLib.learning.importing import STARTER, import_foundation, import_starter
from MedSeqFTLib.models import catalogue as catalogue_file
from MedSeqFTLib.models import checkpoints, downloading, recognition
from MedSeqFTLib.models.availability import Machine, obstacles
from MedSeqFTLib.models.catalogue import Catalogue, FoundationModel, PublishedFile, Rule
from MedSeqFTLib.models.downloading import download
from MedSeqFTLib.models.networks import build_backbone
from MedSeqFTLib.models.pretext import build_pretext
from MedSeqFTLib.models.weights import load_backbone, load_pretext
from MedSeqFTLib.workspace.files import sha256_of
from MedSeqFTLib.workspace.networks import MaskedReconstructionDescription, ResidualUNetDescription
from MedSeqFTLib.workspace.workspace import Workspace

FILE = "published.pth"
MODEL = FoundationModel(
    id="sample",
    title="Sample U-Net",
    publisher="A University",
    citation="Nobody, 2020",
    licence="CC BY 4.0",
    page="https://example.org/sample",
    files=(PublishedFile(name=FILE),),
    network=ResidualUNetDescription(channels=(4, 8), decoder_features=4),
    pretext=MaskedReconstructionDescription(block=4),
    container=("state_dict",),
    rules=(
        Rule(do="drop", match=r"^(module\.)?classifier\.", why="its own classifier"),
        Rule(do="rename", match=r"^module\."),
        Rule(do="keep", match=r"^net\.", name="backbone.unet."),
        Rule(do="keep", match=r"^head\.", name="pretext."),
    ),
    encoder=r"^backbone\.unet\.model\.[01]\.",
    input={"intensity": {"MR": {"kind": "percentile"}}, "patch": (16, 16, 16)},
    memory={"training": 2.0, "prediction": 1.0},
    trained_on="nothing",
    caution="Only for tests.",
)
OTHER = MODEL.model_copy(
    update={"id": "wider", "network": ResidualUNetDescription(channels=(6, 8), decoder_features=4), "pretext": None}
)


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Put entries in place of the catalogue's."""

    def put(*models: FoundationModel) -> None:
        for module in (recognition, importing, catalogue_file):
            monkeypatch.setattr(module, "catalogue", lambda: Catalogue(models=models))

    put(MODEL, OTHER)
    return put


@pytest.fixture
def workspace(tmp_path: Path, known: object) -> Workspace:
    return Workspace.create(tmp_path / "workspace")


def published(seed: int = 5, network: ResidualUNetDescription | None = None) -> dict[str, Tensor]:
    """The tensors of MODEL under its publisher's names."""
    made = network or ResidualUNetDescription(channels=(4, 8), decoder_features=4)
    backbone = build_backbone(made, seed).state_dict()
    pretext = build_pretext(MaskedReconstructionDescription(block=4), made, seed).state_dict()
    return {
        **{f"module.net.{name.removeprefix('unet.')}": tensor for name, tensor in backbone.items()},
        **{f"module.head.{name}": tensor for name, tensor in pretext.items()},
        "module.classifier.weight": torch.ones(3),
    }


def write(folder: Path, tensors: Mapping[str, Tensor], name: str = FILE) -> Path:
    torch.save({"state_dict": dict(tensors), "epoch": 2}, folder / name)
    return folder / name


def refused(workspace: Workspace, path: Path, message: str, **options: Any) -> str:
    """The import is refused and leaves nothing behind."""
    before = tree(workspace.folder)
    with pytest.raises(InputError, match=message) as caught:
        import_foundation(workspace, path, **options)
    assert tree(workspace.folder) == before
    assert str(path) in str(caught.value) or "exists already" in str(caught.value)
    return str(caught.value)


# what is taken


def test_a_published_file_becomes_a_version(workspace: Workspace, tmp_path: Path) -> None:
    tensors = {**published(), "module.unknown": torch.ones(2)}
    path = write(tmp_path, tensors)
    told: list[str] = []
    imported = import_foundation(workspace, path, progress=told.append)
    version, origin = imported.version, imported.version.origin
    assert (version.id, version.kind, version.parent, version.job) == ("M0", "foundation", None, None)
    assert workspace.version("M0") == version
    workspace.verify_version(version)
    assert (version.network, version.pretext, version.input) == (MODEL.network, MODEL.pretext, MODEL.input)
    assert origin is not None
    assert (origin.model, origin.file, origin.sha256) == ("sample", FILE, sha256_of(path))
    assert (origin.matched, origin.fresh) == (len(tensors) - 2, ())
    assert origin.left_out == ("module.classifier.weight", "module.unknown")
    assert imported.coverage.unexpected == ["module.unknown"]
    for name, tensor in load_backbone(workspace, version).state_dict().items():
        assert torch.equal(tensor, tensors[f"module.net.{name.removeprefix('unet.')}"])
    for name, tensor in load_pretext(workspace, version).state_dict().items():
        assert torch.equal(tensor, tensors[f"module.head.{name}"])
    assert told[0] == "reading"
    chain = workspace.chain_version()
    assert chain is not None and chain.id == "M0"


def test_a_state_dict_without_its_container_is_the_same_model(workspace: Workspace, tmp_path: Path) -> None:
    save_file(published(), tmp_path / "converted.safetensors")
    assert import_foundation(workspace, tmp_path / "converted.safetensors").coverage.complete


def test_half_precision_views_and_shared_storages(workspace: Workspace, tmp_path: Path) -> None:
    tensors = published()
    names = [name for name, tensor in tensors.items() if tensor.shape == (8,)]
    whole = torch.arange(16.0).reshape(8, 2)
    tensors[names[0]], tensors[names[1]] = whole[:, 0], whole[:, 1]  # strided views of one storage
    tensors = {name: t if name in names else t.half() for name, t in tensors.items()}
    version = import_foundation(workspace, write(tmp_path, tensors)).version
    stored = load_backbone(workspace, version).state_dict()
    assert {tensor.dtype for tensor in stored.values()} == {torch.float32}
    assert torch.equal(stored["unet." + names[1].removeprefix("module.net.")], whole[:, 1])


def test_what_the_file_lacks_begins_afresh_and_is_reported(workspace: Workspace, tmp_path: Path) -> None:
    tensors = published()
    decoder = [name for name in tensors if name.startswith("module.net.model.2.")]
    path = write(tmp_path, {name: tensor for name, tensor in tensors.items() if name not in decoder})
    first, second = (import_foundation(workspace, path).version for _ in range(2))
    assert first.origin is not None
    assert set(first.origin.fresh) == {name.replace("module.net.", "backbone.unet.") for name in decoder}
    assert first.files == second.files  # always the same beginning
    assert first.pretext is not None


@pytest.mark.parametrize("kept", [0, 1])
def test_an_incomplete_pretext_head_is_left_out(workspace: Workspace, tmp_path: Path, kept: int) -> None:
    heads = [name for name in published() if ".head." in name]
    tensors = {name: tensor for name, tensor in published().items() if name not in heads[kept:]}
    version = import_foundation(workspace, write(tmp_path, tensors)).version
    assert version.pretext is None
    assert set(version.files) == {"backbone.safetensors"}
    assert version.origin is not None
    assert version.origin.left_out[:kept] == tuple(heads[:kept])


def test_a_version_of_a_given_name(workspace: Workspace, tmp_path: Path) -> None:
    path = write(tmp_path, published())
    assert import_foundation(workspace, path, name="M3").version.id == "M3"
    refused(workspace, path, "M3 exists already", name="M3")
    with pytest.raises(InputError, match="'voco' is not a model version"):
        import_foundation(workspace, path, name="voco")
    assert import_foundation(workspace, path).version.id == "M4"


# what is refused


def test_another_number_of_input_channels(workspace: Workspace, tmp_path: Path) -> None:
    tensors = published()
    for name, tensor in tensors.items():
        if tensor.dim() == 5 and tensor.shape[1] == 1 and tensor.shape[2:] == (3, 3, 3) and ".model.0." in name:
            tensors[name] = tensor.repeat(1, 4, 1, 1, 1)
    text = refused(workspace, write(tmp_path, tensors), "takes 4 channels, this software feeds 1")
    assert "sample" in text
    assert "wrong shape: backbone.unet.model.0" in text


def test_an_encoder_with_a_hole(workspace: Workspace, tmp_path: Path) -> None:
    tensors = published()
    gone = next(name for name in tensors if name.startswith("module.net.model.0."))
    del tensors[gone]
    text = refused(workspace, write(tmp_path, tensors), "of the .* tensors of its encoder match")
    assert gone.removeprefix("module.net.") in text


def test_a_head_alone(workspace: Workspace, tmp_path: Path) -> None:
    head = {name: tensor for name, tensor in published().items() if ".head." in name}
    refused(workspace, write(tmp_path, head), "only the tensors of a head")
    classifier = {"module.classifier.weight": torch.ones(3)}
    refused(workspace, write(tmp_path, classifier), "only the tensors of a head")


def test_another_network(workspace: Workspace, tmp_path: Path) -> None:
    path = write(tmp_path, {f"blocks.{i}.weight": torch.ones(2, 2) for i in range(9)})
    text = refused(workspace, path, "does not hold any network of the catalogue")
    assert "blocks.0.weight" in text and "6 more" in text
    refused(workspace, path, "does not hold the network of wider", model="wider")
    refused(workspace, write(tmp_path, {}), "holds no tensors")
    wide = ResidualUNetDescription(channels=(12, 16), decoder_features=4)
    refused(workspace, write(tmp_path, published(network=wide)), "in another size")


def test_the_size_of_the_network_is_recognised(workspace: Workspace, tmp_path: Path) -> None:
    wider = published(network=ResidualUNetDescription(channels=(6, 8), decoder_features=4))
    imported = import_foundation(workspace, write(tmp_path, wider))
    assert imported.entry is not None and imported.entry.id == "wider"
    refused(workspace, write(tmp_path, wider), "sample", model="sample")


def test_several_models_fit(workspace: Workspace, tmp_path: Path, known: Callable[..., None]) -> None:
    twin = MODEL.model_copy(update={"id": "twin", "files": (PublishedFile(name="twin.pth"),)})
    known(MODEL, twin)
    path = write(tmp_path, published(), "renamed.pth")
    refused(workspace, path, "any of these models: sample, twin. Say which with --model")
    for name, options in ((FILE, {}), ("twin.pth", {}), ("renamed.pth", {"model": "twin"})):
        entry = import_foundation(workspace, write(tmp_path, published(), name), **options).entry
        assert entry is not None and entry.id == ("sample" if name == FILE else "twin")
    with pytest.raises(InputError, match="no model 'gone'. It has: sample, twin"):
        import_foundation(workspace, path, model="gone")


def test_a_file_that_is_not_the_published_one(workspace: Workspace, tmp_path: Path, known: Callable[..., None]) -> None:
    known(MODEL.model_copy(update={"files": (PublishedFile(name=FILE, sha256="0" * 64),)}))
    for name in (FILE, "renamed.pth"):
        path = write(tmp_path, published(), name)
        text = refused(workspace, path, "is not the file that A University published")
        assert sha256_of(path) in text and "0" * 64 in text and "--accept-hash" in text
    assert import_foundation(workspace, path, accept_hash=True).version.id == "M0"
    known(MODEL.model_copy(update={"files": (PublishedFile(name=FILE, sha256=sha256_of(path)),)}))
    assert import_foundation(workspace, path).version.id == "M1"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensor: tensor * float("nan"), "no finite numbers"),
        (lambda tensor: torch.full(tensor.shape, 1e300, dtype=torch.float64), "no finite numbers"),
        (lambda tensor: tensor.to(torch.complex64), "as torch.complex64, expected torch.float32"),
        (lambda tensor: tensor.int(), "as torch.int32, expected torch.float32"),
    ],
)
def test_numbers_that_cannot_be_used(
    workspace: Workspace, tmp_path: Path, change: Callable[[Tensor], Tensor], message: str
) -> None:
    tensors = published()
    name = next(name for name in tensors if name.startswith("module.net.model.0.") and tensors[name].dim() == 5)
    tensors[name] = change(tensors[name])
    assert name in refused(workspace, write(tmp_path, tensors), message)


class Touch:
    """Would make a file when unpickled without care."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.path}",)


def test_files_that_are_no_checkpoints_leave_nothing_behind(workspace: Workspace, tmp_path: Path) -> None:
    good = write(tmp_path, published()).read_bytes()
    trace = tmp_path / "trace"
    for content, message in ((good[:-200], "damaged"), (b"7" * 3000, "no checkpoint"), (b"", "is empty")):
        (tmp_path / "bad.pth").write_bytes(content)
        refused(workspace, tmp_path / "bad.pth", message)
    torch.save({"state_dict": published(), "more": Touch(trace)}, tmp_path / "evil.pth")
    refused(workspace, tmp_path / "evil.pth", "could run code")
    assert not trace.exists()


def no_room(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def no_room_for_tensors(*_: object, **__: object) -> None:
    raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")


@pytest.mark.parametrize(
    ("where", "name", "full"), [(checkpoints, "save_file", no_room_for_tensors), (shutil, "copyfile", no_room)]
)
def test_disk_full(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: Any, name: str, full: Any
) -> None:
    path, before = write(tmp_path, published()), tree(workspace.folder)
    monkeypatch.setattr(where, name, full)
    with pytest.raises(StorageError, match="disk is full"):
        import_foundation(workspace, path)
    assert tree(workspace.folder) == before


# files that describe themselves


@pytest.fixture
def exported(workspace: Workspace, tmp_path: Path) -> Path:
    version = import_foundation(workspace, write(tmp_path, published())).version
    return export_foundation(workspace, version.id, tmp_path / "ours.safetensors")


def test_export_and_import_without_the_catalogue(
    workspace: Workspace, exported: Path, tmp_path: Path, known: Callable[..., None]
) -> None:
    known()
    other = Workspace.create(tmp_path / "elsewhere")
    imported = import_foundation(other, exported)
    first, second = workspace.version("M0"), imported.version
    assert imported.entry is None
    assert second.files == first.files
    for field in ("network", "pretext", "lora", "input", "note"):
        assert getattr(second, field) == getattr(first, field), field
    assert second.origin is not None and first.origin is not None
    assert (second.origin.model, second.origin.title) == ("ours", first.origin.title)
    assert (second.origin.licence, second.origin.fresh, second.origin.left_out) == (MODEL.licence, (), ())


def test_refused_exports(workspace: Workspace, exported: Path, tmp_path: Path) -> None:
    content = exported.read_bytes()
    for version, path, message in (
        ("M0", exported, "exists already"),
        ("M0", tmp_path / "a.pt", "must be named .safetensors"),
        ("M0", tmp_path / "gone" / "a.safetensors", "no folder"),
        ("M7", tmp_path / "a.safetensors", "no model version M7"),
    ):
        with pytest.raises(InputError, match=message):
            export_foundation(workspace, version, path)
    assert exported.read_bytes() == content
    assert not (tmp_path / "a.safetensors").exists()


def rewritten(exported: Path, target: Path, **changes: Any) -> Path:
    """The exported file with another description; a change of None leaves a field out."""
    with safe_open(exported, framework="pt") as file:
        described = {**json.loads(file.metadata()["medseqft"]), **changes}
    described = {name: value for name, value in described.items() if value is not ...}
    save_file(load_file(exported), target, metadata={"medseqft": json.dumps(described)})
    return target


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"network": ...}, "description is damaged"),
        ({"network": {"kind": "transformer"}}, "description is damaged"),
        ({"network": {"kind": "residual-unet", "code": "x"}}, "description is damaged"),
        ({"model": "../M0"}, "description is damaged"),
        ({"schema_version": 99}, "newer MedSeqFT"),
        ({"network": {"kind": "residual-unet", "channels": [4, 10**12], "decoder_features": 4}}, "equal to 16384"),
        ({"network": {"kind": "residual-unet", "channels": [4] * 1000, "decoder_features": 4}}, "at most 16"),
        ({"network": {"kind": "stu-net", "depth": 10_000}}, "equal to 128"),
        ({"pretext": {"kind": "swin-ssl"}}, "cannot be built .*needs a Swin UNETR"),
        ({"network": {"kind": "residual-unet", "channels": [4, 9], "decoder_features": 4}}, "wrong shape"),
        ({"network": {"kind": "residual-unet", "channels": [4, 8, 16], "decoder_features": 4}}, "match"),
        ({"note": "x" * 2_000_000}, "2000"),
    ],
)
def test_hostile_descriptions(
    workspace: Workspace, exported: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    refused(workspace, rewritten(exported, tmp_path / "hostile.safetensors", **changes), message)


def test_a_description_that_is_no_json(workspace: Workspace, exported: Path, tmp_path: Path) -> None:
    save_file(load_file(exported), tmp_path / "a.safetensors", metadata={"medseqft": "[" * 5000})
    refused(workspace, tmp_path / "a.safetensors", "description is damaged")


def test_a_described_file_must_hold_exactly_what_it_says(workspace: Workspace, exported: Path, tmp_path: Path) -> None:
    refused(workspace, exported, "holds ours, not sample", model="sample")
    tensors = load_file(exported)
    gone = next(name for name in tensors if name.startswith("pretext."))
    with safe_open(exported, framework="pt") as file:
        metadata = file.metadata()
    save_file({n: t for n, t in tensors.items() if n != gone}, tmp_path / "a.safetensors", metadata=metadata)
    refused(workspace, tmp_path / "a.safetensors", "match")


def test_the_starter_model(
    workspace: Workspace, tmp_path: Path, known: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = import_foundation(workspace, write(tmp_path, published())).version
    path = tmp_path / f"{STARTER}.safetensors"
    known(MODEL.model_copy(update={"id": STARTER, "files": (PublishedFile(name=path.name),)}))
    monkeypatch.setattr(importing, "shipped_file", lambda model: path if path.exists() else None)
    with pytest.raises(WorkspaceError, match="starter model is missing"):
        import_starter(workspace)
    export_foundation(workspace, made.id, path, title="Starter", licence="Apache-2.0")
    version = import_starter(workspace)
    assert version.files == made.files
    assert version.origin is not None and version.origin.licence == "Apache-2.0"


# fitness for this computer


def test_what_stands_against_a_model() -> None:
    assert obstacles(MODEL, Machine(memory=3.0, gpu=None)) == []
    assert obstacles(MODEL, Machine(memory=1.5, gpu=None)) == ["needs 2 GiB for training, this machine has 1.5 free"]
    assert len(obstacles(MODEL, Machine(memory=0.5, gpu=None))) == 2
    assert obstacles(MODEL, Machine(memory=0.5, gpu=8.0)) == []


# downloads, from a stand-in for a server


class Answer(io.BytesIO):
    """Stands in for a server's answer."""

    def __init__(self, content: bytes, announced: str | None = None) -> None:
        super().__init__(content)
        self.headers = http.client.HTTPMessage()
        self.headers["Content-Length"] = announced or str(len(content))


def stand_in(content: bytes | Exception, announced: str | None = None) -> Callable[[Request, float], Answer]:
    """An opener that answers every request in the same way."""

    def opening(request: Request, timeout: float) -> Answer:
        assert request.full_url.startswith("https://")
        if isinstance(content, Exception):
            raise content
        return Answer(content, announced)

    return opening


URL = "https://example.org/published.pth"


def test_download(tmp_path: Path) -> None:
    content = os.urandom(3_000_000)
    (tmp_path / "there").write_bytes(content)
    file = PublishedFile(name=FILE, size=len(content), sha256=sha256_of(tmp_path / "there"), url=URL)
    steps: list[tuple[int, int]] = []
    path = download(file, tmp_path, lambda done, total: steps.append((done, total)), stand_in(content))
    assert path.read_bytes() == content
    assert steps[-1] == (len(content), len(content))


@pytest.mark.parametrize(
    ("changes", "answer", "message"),
    [
        ({"url": None}, b"1", "no address"),
        ({"sha256": "0" * 64}, b"1" * 100, "gave another file"),
        ({"size": 100}, b"1" * 3_000_000, "sends more than"),
        ({"size": 200}, b"1" * 100, "broke off after 100 of 200"),
        ({}, URLError("Name or service not known"), "Is this computer connected"),
        ({}, TimeoutError("timed out"), "timed out"),
        ({}, HTTPError(URL, 404, "Not Found", http.client.HTTPMessage(), None), "404 Not Found"),
    ],
)
def test_refused_downloads(tmp_path: Path, changes: dict[str, Any], answer: bytes | Exception, message: str) -> None:
    file = PublishedFile(name=FILE, url=URL).model_copy(update=changes)
    with pytest.raises(InputError, match=message):
        download(file, tmp_path, opening=stand_in(answer))


def test_no_redirection_away_from_https() -> None:
    handler = downloading._OnlyHttps()
    arguments = (io.BytesIO(), 302, "Found", http.client.HTTPMessage())
    assert handler.redirect_request(Request(URL), *arguments, "https://example.org/b") is not None
    for url in ("http://example.org/b", "file:///etc/passwd", "ftp://example.org/b"):
        with pytest.raises(InputError, match="https"):
            handler.redirect_request(Request(URL), *arguments, url)


# the commands


@pytest.fixture
def run(workspace: Workspace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Result]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MEDSEQFT_WORKSPACE", str(workspace.folder))
    return lambda *arguments: CliRunner().invoke(app, ["models", *(str(argument) for argument in arguments)])


def test_import_is_reported(run: Callable[..., Result], tmp_path: Path) -> None:
    path = write(tmp_path, {name: tensor for name, tensor in published().items() if "head" not in name})
    result = run("import-foundation", path)
    assert result.exit_code == 0, result.output
    for text in ("Sample U-Net (sample)", "CC BY 4.0", "its own classifier", "selection=mds-substitute", "begins with"):
        assert text in result.stdout
    assert "lacks the model's pretext head" in result.stderr
    assert "Only for tests." in result.stderr
    assert "Sample U-Net is foundation model M0 now." in result.stdout
    document = json.loads(run("import-foundation", path, "--as", "M5", "--json").stdout)
    assert document["version"]["id"] == "M5"
    assert document["dropped"] == {"module.classifier.weight": "its own classifier"}


def test_import_refusals_are_one_line(run: Callable[..., Result], workspace: Workspace, tmp_path: Path) -> None:
    before = tree(workspace.folder)
    for arguments, text in (
        (("gone.pth",), "gone.pth cannot be read: No such file"),
        (("sample",), "is a model of the catalogue, not a file"),
        (("sample", "--download"), "cannot be downloaded by itself: get its file from https://example.org/sample"),
        (("nothing", "--download"), "no model 'nothing'"),
    ):
        result = run("import-foundation", *arguments)
        assert (result.exit_code, result.stdout) == (2, ""), result.output
        assert text in result.stderr and result.stderr.count("\n") == 1
    assert tree(workspace.folder) == before


def test_download_asks_first(
    run: Callable[..., Result], workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    known: Callable[..., None],
) -> None:  # fmt: skip
    content = write(tmp_path, published(), "there.pth").read_bytes()
    files = (PublishedFile(name=FILE, size=len(content), url=URL),)
    known(MODEL.model_copy(update={"files": files}))
    before = tree(workspace.folder)
    asked = run("import-foundation", "sample", "--download")
    assert asked.exit_code == 2
    for text in ("CC BY 4.0", "https://example.org/sample", URL, "add --yes"):
        assert text in asked.stderr
    assert tree(workspace.folder) == before
    monkeypatch.setattr(downloading, "_open", stand_in(content))
    result = run("import-foundation", "sample", "--download", "--yes")
    assert result.exit_code == 0, result.output
    assert workspace.version("M0").origin is not None
    assert list((workspace.folder / "cache").iterdir()) == []


def test_list_show_and_export(run: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: type("Memory", (), {"available": 1 << 30})())
    listed = run("foundation").stdout
    assert "sample" in listed and "needs 2 GiB for training" in listed
    assert "must be downloaded from https://example.org/sample" in listed
    documents = json.loads(run("foundation", "--json").stdout)
    assert [document["id"] for document in documents] == ["sample", "wider"]
    assert documents[0]["obstacles"]
    shown = run("show-foundation", "sample")
    assert "Nobody, 2020" in shown.stdout and "Only for tests." in shown.stderr
    assert json.loads(run("show-foundation", "wider", "--json").stdout)["pretext"] is None
    assert run("import-foundation", write(tmp_path, published())).exit_code == 0
    assert "is written to" in run("export-foundation", "M0", "m.safetensors", "--title", "Ours").stdout
    assert "Ours (m)" in run("import-foundation", "m.safetensors").stdout


def test_listing_imports_nothing_heavy() -> None:
    code = """
import sys
from MedSeqFTLib.commands.app import app
app(["models", "foundation"], standalone_mode=False)
app(["models", "show-foundation", "stu-net-s"], standalone_mode=False)
heavy = {"torch", "monai", "peft", "SimpleITK", "numpy", "safetensors"} & set(sys.modules)
assert not heavy, heavy
"""
    process = python(code)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 0, stderr
    assert "voco-b" in stdout
