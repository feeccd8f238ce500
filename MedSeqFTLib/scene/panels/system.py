"""Which program this is, and which packages it lacks. Looks without importing one of them."""

from __future__ import annotations

import importlib.util
import platform
from typing import Any

import slicer
from slicer.i18n import tr as _

#: What a worker imports, by the name of the module; a test compares with the requirement file.
NEEDED = (
    "torch monai peft safetensors SimpleITK blosc2 numpy scipy sklearn pydantic typing_extensions typer rich "
    "matplotlib PIL jinja2 markupsafe psutil filelock nilearn einops"
).split()


def missing_packages() -> list[str]:
    """The modules of NEEDED that this Python cannot find."""
    return [name for name in NEEDED if importlib.util.find_spec(name) is None]


class SystemPanel:
    """Fills the labels for the program and for the packages."""

    def __init__(self, ui: Any) -> None:
        """For the widgets of the module's .ui."""
        self.ui = ui

    def show(self) -> None:
        """Look again, and tell."""
        program = _("Slicer {slicer}, Python {python}, {system}")
        self.ui.programLabel.text = program.format(
            slicer=slicer.app.applicationVersion, python=platform.python_version(), system=platform.system()
        )
        missing = missing_packages()
        self.ui.packagesLabel.text = f"{self._state(missing)} {self._next_step(missing)}"

    def _state(self, missing: list[str]) -> str:
        if not missing:
            return _("All {count} found.").format(count=len(NEEDED))
        return _("{count} of {all} missing: {names}.").format(
            count=len(missing), all=len(NEEDED), names=", ".join(missing)
        )

    def _next_step(self, missing: list[str]) -> str:
        if not missing:
            return _("Scripts in Slicer's Python console can segment and adapt: see docs/scripting.md.")
        if "torch" in missing:
            return _(
                "Scripts in Slicer need them. Begin with PyTorch: install the extension PyTorch, and let it install."
            )
        return _("Scripts in Slicer need them. The command line does not: it installs its own.")
