"""Which packages the library needs, and which of them Slicer's Python lacks. Looks without importing one of them."""

from __future__ import annotations

import importlib
import importlib.util
import re
from importlib import metadata
from pathlib import Path

#: What a worker imports, by the name of the module; a test compares with the requirement file.
NEEDED = (
    "torch monai peft safetensors SimpleITK blosc2 numpy scipy sklearn pydantic typing_extensions typer rich "
    "matplotlib PIL jinja2 markupsafe psutil filelock nilearn einops"
).split()
#: Slicer's own, or the PyTorch extension's. Never installed nor replaced from here: Slicer would not start again.
PROTECTED = ("torch", "numpy", "simpleitk")
#: Also held at their present version, if they are there: they are built for one torch.
BUILT_FOR_TORCH = ("torchvision", "torchaudio")
#: Rounded MB on the disk, of the larger ones with what they bring along; the rest take about one each.
SIZES = {
    "torch": "200 MB for the CPU, up to 5 GB for a GPU",
    "monai": "15 MB",
    "peft": "200 MB with transformers",
    "blosc2": "25 MB",
    "scipy": "140 MB",
    "sklearn": "50 MB",
    "pydantic": "10 MB",
    "matplotlib": "70 MB",
    "PIL": "20 MB",
    "nilearn": "120 MB with pandas",
}
REQUIREMENTS = Path(__file__).resolve().parents[3] / "Resources" / "Requirements"


def missing_packages() -> list[str]:
    """The modules of NEEDED that this Python cannot find."""
    return [name for name in NEEDED if importlib.util.find_spec(name) is None]


def look_again() -> None:
    """Packages may have come or gone."""
    importlib.invalidate_caches()
    _versions.clear()


def version_of(package: str) -> str | None:
    """The installed version of a package, as of the last `look_again`; None if there is none."""
    if package not in _versions:
        try:
            _versions[package] = metadata.version(package)  # 5 ms: it reads the whole description
        except metadata.PackageNotFoundError:
            _versions[package] = None
    return _versions[package]


_versions: dict[str, str | None] = {}


def is_cpu_build(version: str | None) -> bool:
    """Whether this PyTorch was built without GPUs. Its version says so; it is not imported."""
    return (version or "").endswith("+cpu")


def requirements(part: str = "runtime") -> dict[str, str]:
    """Package -> its line of a requirement file."""
    text = (REQUIREMENTS / f"{part}.in").read_text(encoding="utf-8")
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return {re.split(r"[ <>=!~;\[]", line, maxsplit=1)[0].lower(): line for line in lines}


def torch_bounds() -> str:
    """Which versions of torch are asked for, such as ">=2.13,<2.14"."""
    return requirements()["torch"].removeprefix("torch")


def to_install() -> list[str]:
    """What pip is asked for: everything that is not protected. What is there and fits, pip leaves alone."""
    return [line for name, line in requirements().items() if name not in PROTECTED]


def constraints() -> list[str]:
    """The present versions of the protected packages, as lines of a constraint file: pip keeps them, or gives up.

    A version that pip does not understand, as some builds of SimpleITK have, cannot be named; nothing asks for it.
    """
    found = {name: version_of(name) for name in (*PROTECTED, *BUILT_FOR_TORCH)}
    return [f"{name}=={version}" for name, version in found.items() if version and _PUBLIC.fullmatch(version)]


def unfit() -> list[str]:
    """Installed packages of another version than MedSeqFT is tested with, such as "monai 1.3.0, not >=1.6.1,<1.7"."""
    found = []
    for name, line in requirements().items():
        bounds = line[len(name) :].strip()
        version = None if ";" in bounds else version_of(name)
        if version is not None and not fits(version, bounds):
            found.append(f"{name} {version}, not {bounds}")
    return found


def replaceable() -> list[str]:
    """Those of `unfit` that an installation would replace."""
    return [line for line in unfit() if line.partition(" ")[0] not in PROTECTED]


def fits(version: str, bounds: str) -> bool:
    """Whether a version lies within bounds such as ">=1.6.1,<1.7"; only these two signs are known."""
    have = _release(version)
    return all(
        have >= _release(bound[2:]) if bound.startswith(">=") else have < _release(bound[1:])
        for bound in bounds.split(",")
    )


_PUBLIC = re.compile(r"\d+(\.\d+)*((a|b|rc)\d+)?(\.post\d+)?(\.dev\d+)?(\+[a-z0-9]+([.][a-z0-9]+)*)?")


def _release(version: str) -> tuple[int, ...]:
    numbers = re.match(r"\d+(\.\d+)*", version.strip())
    return tuple(int(part) for part in numbers[0].split(".")) if numbers else ()
