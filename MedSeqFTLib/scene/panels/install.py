"""Installing what the library needs into Slicer's Python: torch by the PyTorch extension, the rest by Slicer's pip."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import slicer
from slicer.i18n import tr as _

import MedSeqFTLib.scene.panels.packages as packages
from MedSeqFTLib.errors import MedSeqFTError
from MedSeqFTLib.scene.panels.child import Child

LOG_LINES = 20  # shown when something fails
PATIENCE = 600.0  # seconds for the first import of all packages, from a slow disk
#: Imports each module, and prints which of them failed and why.
CHECK = """
import importlib, json, sys
broken = {}
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
    except Exception as error:
        broken[name] = f"{type(error).__name__}: {error}".splitlines()[0]
print()
print(json.dumps(broken))
"""
#: What goes wrong in an installation is not ours to name: pip's exit code, a network, a file in use, a broken package.
TROUBLE = (subprocess.SubprocessError, ImportError, RuntimeError, OSError, ValueError)


class InstallError(MedSeqFTError):
    """A step of the installation failed. What was installed before stays."""


class Installer:
    """Steps that can be repeated: what is there already is left alone. Each is checked by an import in a child."""

    def __init__(self, log: Path, tell: Callable[[str], None], ended: Callable[[str], None]) -> None:
        """Nothing happens before `start`.

        Args:
            log: what pip says is added to this file.
            tell: is told what is being done.
            ended: is called once at the end; with "", or with why it did not succeed and what to do.
        """
        self.log, self._tell, self._ended = log, tell, ended
        self._steps: Iterator[Callable[[], None]] = iter(())
        self._child = Child()
        self._before: dict[str, str] = {}
        self.is_active = self.is_closed = False
        self.needs_restart = self.was_refused = False

    def start(self) -> None:
        """Install what is missing, and check it."""
        self._begin(self._torch, self._check_torch, self._packages, self._check_all)

    def check(self) -> None:
        """Only see whether everything can be imported, after a restart."""
        self._begin(self._check_all)

    def close(self) -> None:
        """The window is going. A pip that runs goes on, and nobody is told."""
        self.is_closed = True
        self._child.forget()

    def log_tail(self) -> str:
        """The last lines of the log."""
        if not self.log.is_file():
            return ""
        return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_LINES:])

    def _begin(self, *steps: Callable[[], None]) -> None:
        self.is_active, self.needs_restart, self.was_refused = True, False, False
        with contextlib.suppress(OSError):
            self.log.parent.mkdir(parents=True, exist_ok=True)
        self._before, self._steps = _versions(), iter(steps)
        self._write(f"--- {time.strftime('%Y-%m-%d %H:%M:%S')}")
        self._next()

    def _next(self) -> None:
        if self.is_closed:
            return
        step = next(self._steps, None)
        if step is None:
            self._end("")
            return
        try:
            step()
        except InstallError as error:
            self._end(str(error))
        except TROUBLE as error:
            self._end(_("It failed: {error}").format(error=error))

    def _end(self, why: str) -> None:
        if self.is_closed:
            return
        self.is_active = False
        self.needs_restart = not why and _changed_while_imported(self._before)
        self._write(why or "done")
        self._ended(why)

    def _write(self, line: str) -> None:
        with contextlib.suppress(OSError), self.log.open("a", encoding="utf-8") as log:  # no log is better than no end
            print(line, file=log)

    # the steps

    def _torch(self) -> None:
        packages.look_again()
        if importlib.util.find_spec("torch") is None:
            self._tell(_("Installing PyTorch; this takes some minutes, and the window hardly answers meanwhile."))
            extension = _pytorch_extension()
            with self._heard():
                found = extension.installTorch(askConfirmation=True, torchVersionRequirement=packages.torch_bounds())
            if found is None:
                self.was_refused = True
                raise InstallError(_("PyTorch was not installed, as you wished; nothing else was, either."))
        self._next()

    def _check_torch(self) -> None:
        self._tell(_("Checking PyTorch in a process of its own..."))
        self._import(["torch"])

    def _packages(self) -> None:
        packages.look_again()  # for torch, which is held at what was installed just now
        self._tell(_("Installing the other packages..."))
        fixed = self.log.with_name("MedSeqFT-constraints.txt")
        fixed.write_text("\n".join(packages.constraints()) + "\n", encoding="utf-8")
        wanted = ["--only-binary=:all:", *packages.to_install()]
        alone = ["--only-binary=:all:", *packages.requirements("without-dependencies").values()]
        pip = _slicer_packaging()
        if pip is not None:
            self._install_in_background(pip, wanted, alone, fixed)
            return
        with self._heard():  # Slicer 5.10 lets the window breathe between two lines of pip
            slicer.util.pip_install(["--no-deps", *alone])
            slicer.util.pip_install([*wanted, "-c", str(fixed)])
        self._next()

    def _install_in_background(self, pip: Any, wanted: list[str], alone: list[str], fixed: Path) -> None:
        if pip.isPipInstallInProgress():
            raise InstallError(_("Another extension is installing packages: wait until it is done, and try again."))

        def completed(code: int) -> None:
            if code:
                self._end(_("pip gave up with code {code}.").format(code=code))
            else:
                self._next()

        pip.pip_install(
            wanted,
            constraints=fixed,
            no_deps_requirements=alone,
            blocking=False,
            requester="MedSeqFT",
            logCallback=self._write,
            completedCallback=completed,
        )

    def _check_all(self) -> None:
        self._tell(_("Importing all packages once in a process of its own, which takes up to a minute..."))
        self._import(packages.NEEDED)

    def _import(self, names: Sequence[str]) -> None:
        from MedSeqFTLib.scene.program import worker_python

        self._child.run(worker_python() or sys.executable, ["-c", CHECK, *names], PATIENCE, self._imported)

    def _imported(self, code: int | None, output: str) -> None:
        self._write(output)
        last = output.strip().splitlines()[-1:] or [""]
        if code != 0 or not last[0].startswith("{"):
            self._end(_("The Python that would adapt models does not run (exit code {code}).").format(code=code))
            return
        broken = json.loads(last[0])
        if broken:
            told = "; ".join(f"{name} ({error})" for name, error in broken.items())
            self._end(_("These packages cannot be imported: {names}.").format(names=told))
            return
        self._next()

    @contextlib.contextmanager
    def _heard(self) -> Iterator[None]:
        """What is printed meanwhile goes to the log, too."""
        with self.log.open("a", encoding="utf-8") as log, contextlib.redirect_stdout(_Both(sys.stdout, log)):
            yield


class _Both(io.TextIOBase):
    def __init__(self, *streams: Any) -> None:
        self._streams = streams

    def write(self, text: str) -> int:
        for stream in self._streams:
            stream.write(text)
        return len(text)

    def flush(self) -> None:
        for stream in self._streams:
            stream.flush()


def _pytorch_extension() -> Any:
    try:
        import PyTorchUtils
    except ImportError as error:
        raise InstallError(
            _(
                "The extension PyTorch is missing, which installs PyTorch. Open View > Extensions Manager, install "
                "PyTorch, and restart Slicer; then open MedSeqFT and press Go on installing."
            )
        ) from error
    return PyTorchUtils.PyTorchUtilsLogic()


def _slicer_packaging() -> Any:
    """The installer of Slicer 5.12, which works in the background; None in 5.10."""
    try:
        from slicer import packaging
    except ImportError:
        return None
    return packaging


def _versions() -> dict[str, str]:
    return {str(found.metadata["Name"]): found.version for found in metadata.distributions()}


def _changed_while_imported(before: dict[str, str]) -> bool:
    """True if a package was replaced that this program has imported: the old one is still in memory."""
    after = _versions()
    changed = {name for name, version in before.items() if after.get(name, version) != version}
    owners = metadata.packages_distributions() if changed else {}
    return any(module in sys.modules and changed.intersection(names) for module, names in owners.items())
