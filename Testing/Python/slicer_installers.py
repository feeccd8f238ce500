"""Fakes of slicer.packaging, slicer.util.pip_install and PyTorchUtils: they record what is asked, install nothing.

The signatures are Slicer 5.12's. Without `packaging`, a Slicer 5.10: pip_install only, in slicer.util.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from slicer_samples import slicer

Requirements = str | list[str]


class FakeInstallers:
    """`calls` holds (function, requirements, other arguments). `fails` is raised by an installation."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any, dict[str, Any]]] = []
        self.fails: Exception | None = None
        self.present: set[str] = set()
        self._pending: list[Callable[[], None]] = []

    def install(self, patch: pytest.MonkeyPatch, *, packaging: bool = True, torch: bool = True) -> None:
        """With or without slicer.packaging (5.12) and the extension PyTorch."""
        patch.setattr(slicer.util, "pip_install", self.pip_install if packaging else self.pip_install_510)
        found = ModuleType("slicer.packaging")
        for name in ("pip_install", "pip_ensure", "pip_check", "isPipInstallInProgress", "load_requirements"):
            setattr(found, name, getattr(self, name))
        patch.setitem(sys.modules, "slicer.packaging", found if packaging else None)  # type: ignore[arg-type]
        if packaging:
            patch.setattr(slicer, "packaging", found, raising=False)
        else:
            patch.delattr(slicer, "packaging", raising=False)
        utilities = ModuleType("PyTorchUtils")
        utilities.PyTorchUtilsLogic = lambda: FakeTorchLogic(self)  # type: ignore[attr-defined]
        patch.setitem(sys.modules, "PyTorchUtils", utilities if torch else None)  # type: ignore[arg-type]

    def record(self, function: str, requirements: Any, **arguments: Any) -> None:
        self.calls.append((function, requirements, arguments))
        if self.fails is not None:
            raise self.fails

    def pip_install_510(self, requirements: Requirements) -> None:
        self.record("pip_install", requirements)

    def pip_install(
        self,
        requirements: Requirements,
        constraints: str | Path | None = None,
        no_deps_requirements: Requirements | None = None,
        skip_packages: list[str] | None = None,
        blocking: bool = True,
        show_progress: bool = True,
        requester: str | None = None,
        logCallback: Callable[[str], None] | None = None,  # noqa: N803
        completedCallback: Callable[[int], None] | None = None,  # noqa: N803
    ) -> None:
        """Not blocking: it ends when the test calls `finish`."""
        arguments = {"constraints": constraints, "no_deps_requirements": no_deps_requirements, "blocking": blocking}
        self.record("pip_install", requirements, skip_packages=skip_packages, requester=requester, **arguments)
        if not blocking:
            self._pending.append(lambda: completedCallback(0) if completedCallback else None)
            if logCallback:
                logCallback("Collecting (a fake of pip)")

    def pip_ensure(
        self,
        requirements: Any,
        constraints: str | Path | None = None,
        skip_packages: list[str] | None = None,
        prompt_install: bool = True,
        prompt_restart: bool = True,
        requester: str | None = None,
        skip_in_testing: bool = True,
        show_progress: bool = True,
    ) -> None:
        """Only what is missing; asks first unless told not to, as the real one."""
        asked = requirements if isinstance(requirements, list) else str(requirements).split()
        missing = [str(one) for one in asked if not self.pip_check(str(one))]
        question = f"{len(missing)} Python packages need to be installed."
        if not missing:
            return
        if prompt_install and not slicer.util.confirmOkCancelDisplay(
            question, f"{requester} - Install Python Packages"
        ):
            raise RuntimeError("User declined package installation")
        self.record("pip_ensure", missing, constraints=constraints, skip_packages=skip_packages, requester=requester)

    def pip_check(self, req: Any) -> bool:
        asked = req if isinstance(req, list) else str(req).split()
        return all(re.split(r"[\[<>=!~; ]", str(one))[0].lower() in self.present for one in asked)

    def isPipInstallInProgress(self) -> bool:  # noqa: N802
        return bool(self._pending)

    def load_requirements(self, path: str | Path) -> list[str]:
        """The real one gives packaging.requirements.Requirement, whose str() is the same."""
        lines = (line.partition("#")[0].strip() for line in Path(path).read_text(encoding="utf-8").splitlines())
        return [line for line in lines if line and not line.startswith("-")]

    def finish(self) -> None:
        """End the installations that run in the background."""
        while self._pending:
            self._pending.pop(0)()


class FakeTorchLogic:
    """PyTorchUtils.PyTorchUtilsLogic."""

    def __init__(self, installers: FakeInstallers) -> None:
        self._installers = installers

    def torchInstalled(self) -> bool:  # noqa: N802
        return "torch" in self._installers.present

    def installTorch(  # noqa: N802
        self,
        askConfirmation: bool = False,  # noqa: N803
        forceComputationBackend: str | None = None,  # noqa: N803
        torchVersionRequirement: str | None = None,  # noqa: N803
        torchvisionVersionRequirement: str | None = None,  # noqa: N803
    ) -> ModuleType | None:
        """The module torch; None if the user refuses."""
        if askConfirmation and not slicer.util.confirmOkCancelDisplay("PyTorch will be downloaded and installed."):
            return None
        self._installers.record("installTorch", torchVersionRequirement, backend=forceComputationBackend)
        self._installers.present.add("torch")
        return ModuleType("torch")
