"""Pins the requirement files: runtime.in -> runtime.txt, and so on. Needs `uv` on the PATH.

    python3 Resources/Requirements/compile.py [--upgrade]

Without --upgrade the present pins stay where they still fit. The packages that torch brings along for CUDA are left
out: which of them are needed depends on the build of torch that a machine gets.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
#: Of torch's own choosing, see above. httpx2-jsfetch is for browsers.
LEFT_OUT = re.compile(r"^(nvidia-|cuda-|triton=|httpx2-jsfetch=)")
OPTIONS = (
    "--universal --python-version 3.10 --fork-strategy requires-python --only-binary :all: "
    "--no-header --no-annotate --no-emit-index-url --quiet"
).split()
#: The part whose packages are installed without what they ask for.
ALONE = "without-dependencies"
#: Imported once after an installation, by run.py.
IMPORTS = {
    "runtime": (
        "torch monai peft safetensors SimpleITK blosc2 numpy scipy sklearn pydantic typing_extensions typer rich "
        "matplotlib PIL jinja2 markupsafe psutil filelock nilearn einops"
    ),
    ALONE: "dynamic_network_architectures.architectures.unet",
    "test": "pytest xdist hypothesis ruff mypy",
}


def compile_part(part: str, *arguments: str) -> None:
    """Writes PART.txt. What runtime.txt pins is not repeated in the others: they are installed along with it."""
    target = FOLDER / f"{part}.txt"
    command = ["uv", "pip", "compile", *OPTIONS, *arguments, f"{part}.in", "-o", target.name]
    subprocess.run(command, cwd=FOLDER, env={**os.environ, "UV_PYTHON_DOWNLOADS": "never"}, check=True)
    known = set() if part == "runtime" else names(FOLDER / "runtime.txt")
    lines = target.read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if not LEFT_OUT.match(line) and line.partition("==")[0] not in known]
    head = [f"# Made from {part}.in by compile.py; do not edit.", f"# imports: {IMPORTS[part]}"]
    target.write_text("\n".join((*head, *pins)) + "\n", encoding="utf-8", newline="\n")


def names(pins: Path) -> set[str]:
    """The packages of a pinned requirement file."""
    return {line.partition("==")[0] for line in pins.read_text(encoding="utf-8").splitlines()}


if __name__ == "__main__":
    compile_part("runtime", *sys.argv[1:])
    compile_part(ALONE, "--no-deps", *sys.argv[1:])
    compile_part("test", "-c", "runtime.txt", *sys.argv[1:])
