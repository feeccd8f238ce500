"""The shape of the project: rooms and their order, names, lists, versions, and what no file may contain."""

from __future__ import annotations

import ast
import re
import runpy
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
import zipfile
from collections.abc import Iterator
from pathlib import Path
from shutil import copy, copytree

import pytest
import typer
from packaging.markers import Marker, default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import MedSeqFTLib

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = ROOT / "MedSeqFTLib"
MODULE = ROOT / "MedSeqFT" / "MedSeqFT.py"
#: What runs when the module opens.
WINDOW = (MODULE, *sorted((LIBRARY / "scene" / "panels").glob("*.py")))
REQUIREMENTS = ROOT / "Resources" / "Requirements"
#: Each room may import those of a lower floor, never its neighbours or those above.
FLOORS = {
    "workspace": 0,
    "imaging": 1,
    "models": 2,
    "evaluation": 2,
    "learning": 3,
    "jobs": 4,
    "scene": 5,
    "commands": 5,
}
SLICER_ONLY = {"slicer", "qt", "vtk", "ctk", "mrml", "vtkmodules", "PyTorchUtils"}
HEAVY = {"torch", "monai", "peft", "transformers", "SimpleITK", "scipy", "matplotlib", "nilearn", "blosc2", "sklearn"}
#: The parts that every start installs, see run.py.
RUNTIME = ("runtime", "without-dependencies")
#: Packages whose modules have another name, apart from case and - for _. pydantic's documentation counts its core in.
IMPORTED_AS = {"pil": "pillow", "pydantic-core": "pydantic", "sklearn": "scikit-learn"}
SYSTEMS = [
    {
        "sys_platform": system,
        "platform_machine": machine,
        "python_full_version": f"{python}.5",
        "python_version": python,
    }
    for system, machine in (("linux", "x86_64"), ("linux", "aarch64"), ("win32", "AMD64"), ("darwin", "arm64"))
    for python in ("3.10", "3.11", "3.12")
]


def project_files() -> list[Path]:
    """What belongs to the project: tracked files and new ones that git does not ignore."""
    if not (ROOT / ".git").exists():
        pytest.skip("needs a git clone: an unpacked archive does not say which files belong to the project")
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout.decode().split("\0")
    return [ROOT / name for name in listed if name and (ROOT / name).is_file()]


def text_files() -> Iterator[tuple[Path, str]]:
    for path in project_files():
        content = path.read_bytes()
        if b"\0" not in content:
            yield path, content.decode("utf-8")


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """Every imported module's dotted name, and whether it is imported at the top of the file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    top = set(map(id, tree.body))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, id(node) in top) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide the room"
            if node.module == "MedSeqFTLib":
                yield from ((f"MedSeqFTLib.{alias.name}", id(node) in top) for alias in node.names)
            else:
                yield str(node.module), id(node) in top


def library_files() -> list[Path]:
    return sorted(path for path in LIBRARY.rglob("*.py") if "__pycache__" not in path.parts)


def room(path: Path) -> str:
    parts = path.relative_to(LIBRARY).parts
    return parts[0] if len(parts) > 1 else ""


# Names and lists


def test_no_two_names_differ_only_in_case() -> None:
    """Windows and macOS would lay one over the other."""
    names = {path.relative_to(ROOT) for path in project_files()}
    names |= {parent for name in names for parent in name.parents}
    seen: dict[str, Path] = {}
    for name in sorted(names):
        other = seen.setdefault(name.as_posix().casefold(), name)
        assert other == name, f"{other} and {name}"


def test_paths_fit_on_windows() -> None:
    for path in project_files():
        name = path.relative_to(ROOT).as_posix()
        assert len(name) <= 120, name
        assert re.fullmatch(r"[A-Za-z0-9_./ -]+", name), name
        assert not re.search(r"(^|/)(con|prn|aux|nul|com\d|lpt\d)(\.|/|$)", name, re.IGNORECASE), name


def test_cmake_lists_are_complete() -> None:
    tool = runpy.run_path(str(ROOT / "Testing" / "update_cmake_lists.py"))
    assert tool["differences"](ROOT) == [], "run: python3 Testing/update_cmake_lists.py"


def test_a_forgotten_file_is_noticed(tmp_path: Path) -> None:
    tool = runpy.run_path(str(ROOT / "Testing" / "update_cmake_lists.py"))
    for folder in ("MedSeqFT", "MedSeqFTLib/workspace"):
        (tmp_path / folder).mkdir(parents=True)
    copy(ROOT / "MedSeqFT" / "CMakeLists.txt", tmp_path / "MedSeqFT")
    (tmp_path / "MedSeqFTLib" / "workspace" / "new.py").touch()
    found = tool["differences"](tmp_path)
    assert "LIBRARY_PYTHON_SCRIPTS forgets MedSeqFTLib/workspace/new.py" in found
    assert "MODULE_PYTHON_SCRIPTS names MedSeqFT.py, which is not there" in found
    tool["update"](tmp_path)
    assert tool["differences"](tmp_path) == []


def test_extension_variables_are_in_the_root_file() -> None:
    text = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
    assert re.search(r"^project\(MedSeqFT\)$", text, re.MULTILINE)
    for name in ("HOMEPAGE", "CONTRIBUTORS", "DESCRIPTION", "ICONURL", "SCREENSHOTURLS", "DEPENDS"):
        assert f"set(EXTENSION_{name} " in text


# The Slicer module


def test_every_widget_that_the_module_uses_is_in_its_ui_file() -> None:
    tree = ElementTree.parse(ROOT / "MedSeqFT" / "Resources" / "UI" / "MedSeqFT.ui")
    present = {widget.get("name") for widget in tree.iter("widget")}
    used = {
        node.attr
        for path in WINDOW
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Attribute) and node.value.attr == "ui"
    }
    assert used, "the module uses no widget at all"
    assert used <= present
    root = tree.find("widget")
    assert root is not None and root.get("class") == "qMRMLWidget"
    declared = {custom.findtext("class") for custom in tree.iter("customwidget")}
    own = {str(widget.get("class")) for widget in tree.iter("widget")}
    assert {name for name in own if not name.startswith("Q")} <= declared


def test_every_bound_widget_is_bound_to_a_parameter_that_there_is() -> None:
    tree = ElementTree.parse(ROOT / "MedSeqFT" / "Resources" / "UI" / "MedSeqFT.ui")
    bound = {str(p.findtext("string")) for p in tree.iter("property") if p.get("name") == "SlicerParameterName"}
    classes = (node for node in ast.parse(MODULE.read_text(encoding="utf-8")).body if isinstance(node, ast.ClassDef))
    (parameters,) = (node for node in classes if node.name == "MedSeqFTParameterNode")
    fields = {ast.unparse(part.target) for part in parameters.body if isinstance(part, ast.AnnAssign)}
    assert bound
    assert bound <= fields


def test_the_module_imports_only_what_slicer_ships() -> None:
    allowed = {"slicer", "qt", "ctk", "vtk", "numpy", *sys.stdlib_module_names}
    own = {"MedSeqFTLib.errors", *(f"MedSeqFTLib.scene.panels.{path.stem}" for path in WINDOW)}
    for path in WINDOW:
        names = {name for name, at_top in imports(path) if at_top} - own
        assert {name.partition(".")[0] for name in names} <= allowed, path


def test_nothing_that_newer_pythons_or_qt_6_dropped() -> None:
    for path in (*WINDOW, *library_files()):
        assert not {name.partition(".")[0] for name, _ in imports(path)} & {"imp", "cgi", "distutils"}, path
    for path in WINDOW:
        assert not re.search(r"QTextCodec|QRegExp\b|\.exec_\(", path.read_text(encoding="utf-8")), path


def test_translated_strings_are_literals() -> None:
    """An f-string inside _() can never be found by the translation tools."""
    calls = [
        node
        for path in WINDOW
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "_"
    ]
    assert calls
    assert all(isinstance(call.args[0], ast.Constant) for call in calls)


@pytest.mark.parametrize("path", ["MedSeqFT/Resources/Icons/MedSeqFT.png", "Resources/MedSeqFT.png"])
def test_icons_are_128_pixels_square(path: str) -> None:
    content = (ROOT / path).read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    assert (int.from_bytes(content[16:20], "big"), int.from_bytes(content[20:24], "big")) == (128, 128)


# Rooms


@pytest.mark.parametrize("own", sorted({*FLOORS} - {"commands", "scene"}))  # a file of these is a command or a panel
def test_one_name_is_one_function_in_a_room(own: str) -> None:
    places: dict[str, Path] = {}
    for path in library_files():
        for node in ast.parse(path.read_text(encoding="utf-8")).body if room(path) == own else ():
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                other = places.setdefault(node.name, path)
                assert other == path, f"{node.name} is in {other.name} and in {path.name}"


@pytest.mark.parametrize("path", library_files(), ids=lambda path: path.relative_to(LIBRARY).as_posix())
def test_arrows_between_rooms_point_one_way(path: Path) -> None:
    own = room(path)
    assert own in FLOORS or path.parent == LIBRARY, f"{own} is not a room; see docs/architecture.md"
    for name, _ in imports(path):
        assert own == "scene" or name.partition(".")[0] not in SLICER_ONLY, f"{name}: only scene knows Slicer"
        if not name.startswith("MedSeqFTLib."):
            continue
        other = name.split(".")[1]
        if other in FLOORS and other != own:
            assert FLOORS.get(own, -1) > FLOORS[other], f"{own or path.name} must not import {name}"


def test_workspace_jobs_and_command_line_start_without_heavy_libraries() -> None:
    """Checked by really importing them in a fresh interpreter. Commands may import more once they are called."""
    names = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in library_files()
        if room(path) in ("workspace", "jobs") or path.relative_to(LIBRARY).as_posix() == "commands/app.py"
    ]
    assert "MedSeqFTLib.commands.app" in names
    code = "import importlib, sys\nfor name in sys.argv[1:]: importlib.import_module(name)\nprint(*sys.modules)"
    child = subprocess.run([sys.executable, "-c", code, *names], cwd=ROOT, capture_output=True, text=True, check=False)
    assert child.returncode == 0, child.stderr
    loaded = {name.partition(".")[0] for name in child.stdout.split()}
    assert "MedSeqFTLib" in loaded
    assert loaded & (HEAVY | SLICER_ONLY) == set()


# Requirements and versions


def entries(name: str) -> list[Requirement]:
    """The requirements of a file, without comments."""
    lines = (REQUIREMENTS / name).read_text(encoding="utf-8").splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def required(*parts: str) -> set[str]:
    """The packages of these .in files."""
    return {canonicalize_name(wanted.name) for part in parts for wanted in entries(f"{part}.in")}


def package(module: str) -> str:
    """The package that an imported module belongs to."""
    name = canonicalize_name(module.partition(".")[0])
    return IMPORTED_AS.get(name, name)


def applies(marker: Marker | None, system: dict[str, str]) -> bool:
    return marker is None or marker.evaluate({**default_environment(), **system})


@pytest.mark.parametrize("part", [*RUNTIME, "test"])
@pytest.mark.parametrize(
    "system",
    SYSTEMS,
    ids=lambda system: " ".join((system["sys_platform"], system["platform_machine"], system["python_version"])),
)
def test_every_requirement_has_one_fitting_pin(part: str, system: dict[str, str]) -> None:
    pins: dict[str, Version] = {}
    for pin in [pin for file in sorted({"runtime", part}) for pin in entries(f"{file}.txt")]:
        (only,) = pin.specifier
        assert only.operator == "==", pin
        if applies(pin.marker, system):
            assert canonicalize_name(pin.name) not in pins, f"{pin.name} is pinned twice"
            pins[canonicalize_name(pin.name)] = Version(only.version)
    for wanted in entries(f"{part}.in"):
        if applies(wanted.marker, system):
            assert wanted.specifier.contains(pins[canonicalize_name(wanted.name)]), wanted


@pytest.mark.parametrize("part", [*RUNTIME, "test"])
def test_lower_bounds_are_the_oldest_tested_versions(part: str) -> None:
    for wanted in entries(f"{part}.in"):
        pins = [pin for pin in entries(f"{part}.txt") if canonicalize_name(pin.name) == canonicalize_name(wanted.name)]
        oldest = min(Version(next(iter(pin.specifier)).version) for pin in pins)
        (bound,) = [bound for bound in wanted.specifier if bound.operator in (">=", "==")]
        assert Version(bound.version) == oldest, f"{wanted.name}: the bound says {bound.version}, pinned is {oldest}"


def test_torch_brings_its_own_cuda_libraries() -> None:
    assert not [pin.name for pin in entries("runtime.txt") if re.match(r"nvidia|cuda|triton", pin.name)]


def test_runtime_requirements_are_imported_after_an_installation() -> None:
    for part in RUNTIME:
        text = (REQUIREMENTS / f"{part}.txt").read_text(encoding="utf-8")
        head = re.search(r"^# imports: (.+)$", text, re.MULTILINE)
        assert head is not None
        everywhere = {canonicalize_name(pin.name) for pin in entries(f"{part}.in") if pin.marker is None}
        assert {package(name) for name in head[1].split()} == everywhere


def test_nothing_asks_pip_for_another_torch() -> None:
    """torchvision, and timm with it, name the one torch that they fit."""
    assert not required(*RUNTIME, "test") & {"timm", "torchvision", "torchaudio"}
    pinned = {canonicalize_name(pin.name) for part in (*RUNTIME, "test") for pin in entries(f"{part}.txt")}
    assert not pinned & {"timm", "torchvision", "torchaudio"}
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert '"Resources/Requirements/without-dependencies.in"' not in project, "pip would install what those ask for"


def test_what_the_library_imports_is_required() -> None:
    """And nothing that only happens to be installed along with something else."""
    allowed = required(*RUNTIME) | {"medseqftlib"}
    for path in library_files():
        for name, _ in imports(path):
            top = name.partition(".")[0]
            slicer = room(path) == "scene" and top in SLICER_ONLY
            assert slicer or top in sys.stdlib_module_names or package(name) in allowed, f"{path}: {top}"


def test_versions_agree() -> None:
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.search(rf"^version: {re.escape(MedSeqFTLib.__version__)}$", citation, re.MULTILINE)


def test_readme_names_every_command() -> None:
    from MedSeqFTLib.commands.app import app

    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    top = typer.main.get_command(app)
    for name, command in top.commands.items():  # type: ignore[attr-defined]
        for line in [f"{name} {part}" for part in getattr(command, "commands", [])] or [name]:
            assert f"`{line}`" in readme, line


def test_wheel_holds_the_library_and_nothing_else(tmp_path: Path) -> None:
    for folder in ("MedSeqFTLib", "Resources"):
        copytree(ROOT / folder, tmp_path / folder)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        copy(ROOT / name, tmp_path)
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-build-isolation",
        "--no-deps",
        "--no-index",
        "-w",
        "out",
        ".",
    ]
    built = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    (path,) = (tmp_path / "out").glob("medseqft-*.whl")
    with zipfile.ZipFile(path) as wheel:
        names = set(wheel.namelist())
        points = next(name for name in names if name.endswith("entry_points.txt"))
        assert "medseqft = MedSeqFTLib.commands.app:main" in wheel.read(points).decode()
    shipped = {path.relative_to(ROOT).as_posix() for path in project_files() if LIBRARY in path.parents}
    resources = runpy.run_path(str(ROOT / "Testing" / "update_cmake_lists.py"))["library_resources"]()
    shipped |= {f"MedSeqFTLib/resources/{path.relative_to(ROOT / 'Resources').as_posix()}" for path in resources}
    assert {name for name in names if ".dist-info/" not in name} == shipped
    assert MedSeqFTLib.__version__ in path.name


# What no file may contain


def test_no_registry_host_and_no_path_of_one_machine() -> None:
    hosts = "|".join(first + rf"\.{last}" for first, last in (("py" + "pi", "org"), ("python" + "hosted", "org")))
    hosts += "|" + "|".join(("download" + r"\.py" + "torch", "registry" + r"\.npm", "conda" + r"\.anaconda"))
    folders = "|".join(("work", "farm", "root", "home", "tmp", "Users"))
    forbidden = re.compile(rf"{hosts}|(^|[\"' =(`])/({folders})/[A-Za-z0-9_.-]", re.MULTILINE)
    found = [
        f"{path.relative_to(ROOT)}: {match[0]!r}" for path, text in text_files() for match in forbidden.finditer(text)
    ]
    assert not found


def test_text_files_end_with_lf() -> None:
    for path, text in text_files():
        assert "\r" not in text, path
        assert not text or text.endswith("\n"), f"{path}: the last line has no end"
