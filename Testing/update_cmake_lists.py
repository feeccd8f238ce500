"""Writes the file lists of MedSeqFT/CMakeLists.txt from what lies in the folders.

python3 Testing/update_cmake_lists.py            rewrite the lists
python3 Testing/update_cmake_lists.py --check    only say what differs; exit code 1 if anything does
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CMAKE = Path("MedSeqFT", "CMakeLists.txt")
#: What is shipped beside the Python files. Other files (notes, editors' leavings) are not.
RESOURCES = {".css", ".csv", ".html", ".j2", ".jinja", ".json", ".png", ".svg", ".ui"}
#: What the library reads from the project's Resources.
LIBRARY_RESOURCES = (
    "Benchmarks/*",
    "FoundationModels*.json",
    "Models/*",
    "Requirements/runtime.in",
    "Requirements/without*.in",
)


def files(root: Path, top: str, relative_to: str) -> Iterator[str]:
    """The files under `top`, as the CMake lists name them."""
    for path in sorted((root / top).rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            yield path.relative_to(root / relative_to).as_posix()


def wanted(root: Path) -> dict[str, list[str]]:
    """Every list with the files that belong in it."""
    module = list(files(root, "MedSeqFT", "MedSeqFT"))
    library = list(files(root, "MedSeqFTLib", "."))
    return {
        "MODULE_PYTHON_SCRIPTS": [name for name in module if name.endswith(".py")],
        "MODULE_PYTHON_RESOURCES": [name for name in module if Path(name).suffix in RESOURCES],
        "LIBRARY_PYTHON_SCRIPTS": [name for name in library if name.endswith(".py")],
        "LIBRARY_PYTHON_RESOURCES": [
            *(name for name in library if Path(name).suffix in RESOURCES),
            *(path.relative_to(root).as_posix() for path in library_resources(root)),
        ],
    }


def library_resources(root: Path = ROOT) -> list[Path]:
    """The files of the project's Resources that the library reads."""
    return sorted(path for pattern in LIBRARY_RESOURCES for path in (root / "Resources").glob(pattern))


def listed(text: str, name: str) -> list[str]:
    """The entries of one `set(NAME ...)` of a CMake file."""
    match = re.search(rf"^set\({name}\n(.*?)^  \)$", text, re.MULTILINE | re.DOTALL)
    if match is None:
        raise SystemExit(f"{CMAKE}: there is no set({name} ...)")
    return match[1].split()


def differences(root: Path = ROOT) -> list[str]:
    """One line for each file that is forgotten in a list, or listed and gone."""
    text = (root / CMAKE).read_text(encoding="utf-8")
    lines = []
    for name, entries in wanted(root).items():
        present = set(listed(text, name))
        lines += [f"{name} forgets {entry}" for entry in entries if entry not in present]
        lines += [f"{name} names {entry}, which is not there" for entry in sorted(present - set(entries))]
    return lines


def update(root: Path = ROOT) -> None:
    """Rewrites the lists."""
    text = (root / CMAKE).read_text(encoding="utf-8")
    for name, entries in wanted(root).items():
        block = "".join(f"  {entry}\n" for entry in entries)
        text = re.sub(rf"^(set\({name}\n).*?(^  \)$)", rf"\g<1>{block}\g<2>", text, flags=re.MULTILINE | re.DOTALL)
    (root / CMAKE).write_text(text, encoding="utf-8", newline="\n")


def main(arguments: list[str]) -> int:
    """Exit code: 0 the lists are right (now), 1 they are not."""
    found = differences()
    print("\n".join(found) or "the lists are complete")
    if arguments == ["--check"]:
        return 1 if found else 0
    update()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
