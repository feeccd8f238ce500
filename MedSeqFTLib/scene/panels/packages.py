"""Which packages the library needs, and which of them Slicer's Python lacks. Looks without importing one of them."""

from __future__ import annotations

import importlib.util

#: What a worker imports, by the name of the module; a test compares with the requirement file.
NEEDED = (
    "torch monai peft safetensors SimpleITK blosc2 numpy scipy sklearn pydantic typing_extensions typer rich "
    "matplotlib PIL jinja2 markupsafe psutil filelock nilearn einops"
).split()


def missing_packages() -> list[str]:
    """The modules of NEEDED that this Python cannot find."""
    return [name for name in NEEDED if importlib.util.find_spec(name) is None]
