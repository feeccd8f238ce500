"""Set-up: the workspace, what the computer offers, installing. Real clicks, files and child processes; no real pip."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from packaging.requirements import Requirement
from slicer_program import Window, inside, scene, window  # noqa: F401
from slicer_samples import slicer

from MedSeqFTLib.workspace.workspace import Workspace

CHOOSE, MAKE = "Open a workspace", "new workspace"


def part(name: str) -> Any:
    """A module of the panels, as the window has imported it."""
    return sys.modules[f"MedSeqFTLib.scene.panels.{name}"]


def logic(window: Window) -> Any:  # noqa: F811
    return window.widget.session.logic


def settled(window: Window) -> None:  # noqa: F811
    """What the window does soon after it was opened has been done."""
    window.wait_until(lambda: "Asking" not in window.ui.deviceLabel.text)


def open_folder(window: Window, folder: Path) -> None:  # noqa: F811
    window.dialogs.expect(CHOOSE, folder)
    click(window, window.ui.openWorkspaceButton)


def click(window: Window, button: Any) -> None:  # noqa: F811
    """A button that opens a workspace, which is then open, or was refused."""
    window.click(button)
    window.wait_until(window.ui.openWorkspaceButton.isEnabled)


def lacking(monkeypatch: pytest.MonkeyPatch, *names: str) -> set[str]:
    """These modules cannot be found, until they are taken out of the set that is returned."""
    absent, find = set(names), importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name in absent else find(name, *rest))
    return absent


# the workspace


def test_a_workspace_is_made_remembered_and_opened_again(window: Window, tmp_path: Path) -> None:  # noqa: F811
    folder = tmp_path / "my wörkspace"
    assert "None is open" in window.ui.workspaceLabel.text
    assert not window.ui.taskCollapsibleButton.isEnabled()
    window.dialogs.expect(MAKE, folder)
    click(window, window.ui.newWorkspaceButton)
    assert (folder / "workspace.json").is_file()
    assert window.ui.workspaceLineEdit.text == str(folder)
    assert window.ui.workspaceLabel.text == "Tasks: 0, cases: 0, model versions: 0."
    assert window.ui.taskCollapsibleButton.isEnabled()
    window.reopen()
    window.wait_until(lambda: logic(window) is not None)
    assert logic(window).workspace.folder == folder
    assert window.ui.workspaceLineEdit.text == str(folder)


def test_a_folder_is_chosen_or_typed(window: Window, tmp_path: Path) -> None:  # noqa: F811
    first, second = Workspace.create(tmp_path / "first"), Workspace.create(tmp_path / "second")
    open_folder(window, first.folder)
    assert logic(window).workspace.folder == first.folder
    window.type(window.ui.workspaceLineEdit, str(second.folder))
    window.wait_until(window.ui.openWorkspaceButton.isEnabled)
    assert logic(window).workspace.folder == second.folder
    inside(window.ui.workspaceLineEdit).setText("half a pa")
    window.widget.session.changed()
    assert window.ui.workspaceLineEdit.text == "half a pa"  # what is typed stays
    window.dialogs.expect(CHOOSE, None)
    click(window, window.ui.openWorkspaceButton)  # and thought better of it
    assert logic(window).workspace.folder == second.folder


def test_the_library_is_imported_and_a_workspace_read_on_a_thread(
    window: Window,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is imported is told by a fresh Python; here the thread waits at a gate, and the window does not."""
    first, second = Workspace.create(tmp_path / "first"), Workspace.create(tmp_path / "second")
    open_folder(window, first.folder)
    gate, threads, really = threading.Event(), [], Workspace.open

    def slow(folder: Path) -> Workspace:
        threads.append(threading.current_thread())
        gate.wait(20)
        return really(folder)

    monkeypatch.setattr(Workspace, "open", slow)
    ui = window.ui
    window.dialogs.expect(CHOOSE, second.folder)
    window.click(ui.openWorkspaceButton)
    assert ui.workspaceLabel.text == "Opening..."
    assert logic(window).workspace.folder == first.folder  # which can be worked in until the other is open
    for widget in (ui.openWorkspaceButton, ui.newWorkspaceButton, ui.workspaceLineEdit):
        assert not widget.isEnabled() and "just being opened" in widget.toolTip
    gate.set()
    window.wait_until(lambda: logic(window).workspace.folder == second.folder)
    assert ui.workspaceLabel.text == "Tasks: 0, cases: 0, model versions: 0."
    assert threads and threading.main_thread() not in threads


def test_a_window_that_is_closed_while_it_opens_a_workspace_is_not_disturbed(
    window: Window,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder, gate, really = Workspace.create(tmp_path / "workspace").folder, threading.Event(), Workspace.open
    open_folder(window, folder)
    monkeypatch.setattr(Workspace, "open", lambda folder: gate.wait(20) and really(folder))
    window.reopen()
    window.wait_until(lambda: window.ui.workspaceLabel.text == "Opening...")
    window.close()
    gate.set()
    window._open()
    window.wait_until(lambda: logic(window) is not None)


def no_workspace(folder: Path) -> None:
    folder.mkdir()


def newer(folder: Path) -> None:
    path = Workspace.create(folder).folder / "workspace.json"
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), "schema_version": 99}))


def damaged(folder: Path) -> None:
    (Workspace.create(folder).folder / "workspace.json").write_text("{")


@pytest.mark.parametrize(
    ("prepare", "told"),
    [
        (lambda _folder: None, "is not there. If it was moved"),
        (no_workspace, "press New"),
        (newer, "written by a newer MedSeqFT"),
        (damaged, "Restore it from a backup"),
    ],
    ids=["missing", "no workspace", "newer", "damaged"],
)
def test_a_folder_that_cannot_be_opened_is_told_and_the_open_one_stays(
    window: Window,  # noqa: F811
    tmp_path: Path,
    prepare: Callable[[Path], None],
    told: str,
) -> None:
    present = Workspace.create(tmp_path / "present")
    open_folder(window, present.folder)
    prepare(tmp_path / "other")
    window.dialogs.expect(CHOOSE, tmp_path / "other")
    window.dialogs.expect(told)
    click(window, window.ui.openWorkspaceButton)
    assert str(tmp_path / "other") in window.dialogs.shown[-1]
    assert logic(window).workspace.folder == present.folder
    window.reopen()
    window.wait_until(lambda: logic(window) is not None)
    assert logic(window).workspace.folder == present.folder


def test_a_new_workspace_needs_an_empty_folder(window: Window, tmp_path: Path) -> None:  # noqa: F811
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("precious")
    window.dialogs.expect(MAKE, tmp_path / "full")
    window.dialogs.expect("is not empty")
    click(window, window.ui.newWorkspaceButton)
    assert logic(window) is None
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["thesis.txt"]


def test_a_workspace_that_was_moved_since_last_time_is_told_without_a_dialogue(
    window: Window,  # noqa: F811
    tmp_path: Path,
) -> None:
    open_folder(window, Workspace.create(tmp_path / "here").folder)
    window.close()
    (tmp_path / "here").rename(tmp_path / "there")
    window._open()
    window.wait_until(lambda: "moved or renamed" in window.ui.workspaceLabel.text)
    assert str(tmp_path / "here") in window.ui.workspaceLabel.text
    open_folder(window, tmp_path / "there")
    assert window.ui.workspaceLabel.text == "Tasks: 0, cases: 0, model versions: 0."


def test_a_workspace_that_goes_away_while_it_is_open_is_told(window: Window, tmp_path: Path) -> None:  # noqa: F811
    open_folder(window, Workspace.create(tmp_path / "here").folder)
    (tmp_path / "here").rename(tmp_path / "there")
    window.widget.session.changed()
    assert "The folder is gone" in window.ui.workspaceLabel.text


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Nobody may write there; root, whom no mode stops, becomes nobody meanwhile."""
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    for above in folder.parents[:-1]:
        above.chmod(above.stat().st_mode | 0o055)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX modes")
def test_a_workspace_on_a_read_only_disk_can_be_looked_at(window: Window, tmp_path: Path) -> None:  # noqa: F811
    folder = Workspace.create(tmp_path / "workspace").folder
    with read_only(folder):
        open_folder(window, folder)
    assert logic(window).workspace.folder == folder
    assert "cannot be written (Permission denied)" in window.ui.workspaceLabel.text
    assert "open a copy" in window.ui.workspaceLabel.text


def test_another_slicer_with_the_same_workspace_is_told(window: Window, tmp_path: Path) -> None:  # noqa: F811
    folder = Workspace.create(tmp_path / "workspace").folder
    code = "import sys, filelock; k = filelock.FileLock(sys.argv[1]); k.acquire(); print(1, flush=True); input()"
    claim = folder / "jobs" / part("opening").CLAIM
    other = subprocess.Popen([sys.executable, "-c", code, claim], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert other.stdout is not None
    other.stdout.readline()
    open_folder(window, folder)
    assert "Another Slicer has this workspace open" in window.ui.workspaceLabel.text
    other.communicate(b"\n", timeout=20)
    window.reopen()
    window.wait_until(lambda: logic(window) is not None)
    assert "Another Slicer" not in window.ui.workspaceLabel.text
    window.close()
    FileLock(str(claim)).acquire(timeout=0).lock.release()  # a closed window lets go
    window._open()


# the System lines


def test_the_computer_is_told(window: Window, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:  # noqa: F811
    """nvidia-smi is a script here: its answer is what a real card gave."""
    if sys.platform == "win32":
        pytest.skip("a script cannot stand in for a program there")
    script = tmp_path / "nvidia-smi"
    script.write_text("#!/bin/sh\necho 'NVIDIA H100 80GB HBM3, 81559, 80995, 550.54.15'\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    window.reopen()
    settled(window)
    ui = window.ui
    assert ui.deviceLabel.text.splitlines()[0] == "NVIDIA H100 80GB HBM3, 79.1 of 79.6 GiB free, driver 550.54.15"
    assert ui.programLabel.text.startswith("Slicer 5.12.4, Python 3.")
    assert "GiB of disk free" in ui.memoryLabel.text
    assert "PyTorch is built for the CPU alone" in ui.deviceLabel.text or "+cpu" not in ui.torchLabel.text
    assert ui.systemGroupBox.collapsed
    ui.systemGroupBox.collapsed = False
    window.click(ui.copyButton)
    copied = slicer.app.clipboard().text()
    assert len(copied.splitlines()) >= 6
    for told in (ui.versionLabel, ui.programLabel, ui.torchLabel, ui.deviceLabel, ui.memoryLabel, ui.packagesLabel):
        assert told.text in copied


@pytest.mark.parametrize(
    ("code", "answer", "system", "told"),
    [
        (None, "", "Linux", "No NVIDIA card answers, so the CPU computes"),
        (9, "NVIDIA-SMI has failed because, as it is, the driver, alas, is dumb", "Windows", "No NVIDIA card answers"),
        (None, "", "Darwin", "Apple GPU"),
        (0, "NVIDIA GB10, [N/A], [N/A], 580.1\n", "Linux", "NVIDIA GB10, driver 580.1"),
    ],
    ids=["no driver", "a failing one", "a Mac", "a shared memory"],
)
def test_no_card_no_driver_and_an_odd_answer(
    window: Window,  # noqa: F811
    code: int | None,
    answer: str,
    system: str,
    told: str,
) -> None:
    gpus = part("gpu_probe").gpus_of(code, answer, system, "arm64")
    assert part("computer").device_text(gpus).startswith(told)


@pytest.mark.parametrize(
    ("version", "told"),
    [
        ("2.13.0+cu128", "2.13.0+cu128, built for CUDA 12.8"),
        ("2.13.1+cpu", "2.13.1+cpu, built for the CPU alone"),
        ("2.13.0", "2.13.0"),
        (None, "not installed"),
    ],
)
def test_the_build_of_torch(window: Window, monkeypatch: pytest.MonkeyPatch, version: str, told: str) -> None:  # noqa: F811
    monkeypatch.setattr(part("computer"), "version_of", lambda _name: version)
    assert part("computer").torch_text() == told


def test_another_torch_is_told_and_not_replaced(window: Window, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setattr(part("computer"), "version_of", lambda _name: "2.5.1+cu124")
    assert "tested with >=2.13,<2.14" in part("computer").torch_text()


# installing


def test_nothing_is_missing(window: Window) -> None:  # noqa: F811
    assert window.ui.packagesLabel.text.startswith("All 21 found.")
    assert not window.ui.installButton.isEnabled()
    assert window.ui.installButton.toolTip == "All packages are there."


def test_missing_packages_keep_the_workspace_closed(
    window: Window,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    open_folder(window, Workspace.create(tmp_path / "workspace").folder)
    lacking(monkeypatch, "torch", "peft")
    window.reopen()
    settled(window)
    ui = window.ui
    assert ui.packagesLabel.text.startswith("2 of 21 missing: torch, peft. Press Install packages.")
    assert "install the missing packages first" in ui.workspaceLabel.text
    assert logic(window) is None
    assert ui.systemGroupBox.title == "System: 2 packages are missing"
    assert not ui.systemGroupBox.collapsed
    for widget in (ui.openWorkspaceButton, ui.newWorkspaceButton, ui.workspaceLineEdit):
        assert not widget.isEnabled()
        assert widget.toolTip == "Install the missing packages first."
    window.dialogs.expect("torch (200 MB for the CPU, up to 5 GB for a GPU), peft", False)
    window.click(ui.installButton)
    assert window.installers.calls == []
    assert not slicer.app.userSettings().value(part("installing").PENDING)


def begin(window: Window, monkeypatch: pytest.MonkeyPatch, *missing: str, **slicer_has: bool) -> set[str]:  # noqa: F811
    """Press Install in a Slicer that lacks something; returns what it lacks. Only small modules are imported."""
    monkeypatch.setattr(part("packages"), "NEEDED", ["torch", "peft", "json"])
    monkeypatch.setattr(
        part("install"), "CHECK", part("install").CHECK.replace("name)", "name * (name == 'json') or 'os')")
    )
    window.installers.install(monkeypatch, **slicer_has)
    absent = lacking(monkeypatch, *missing)
    window.widget.session.changed()
    window.ui.systemGroupBox.collapsed = False
    window.dialogs.expect("These packages will be downloaded")
    if "torch" in missing and slicer_has.get("torch", True):
        window.dialogs.expect("PyTorch will be downloaded")
    return absent


def test_installing_in_slicer_5_12(window: Window, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    absent = begin(window, monkeypatch, "torch", "peft")
    window.click(window.ui.installButton)
    absent.discard("torch")
    assert not window.ui.installButton.isEnabled()
    window.wait_until(lambda: len(window.installers.calls) == 2)
    torch, pip = window.installers.calls
    assert torch == ("installTorch", ">=2.13,<2.14", {"backend": None})
    names = {Requirement(line).name.lower() for line in pip[1] if not line.startswith("-")}
    assert {"monai", "peft", "pydantic", "filelock"} <= names
    assert not names & {"torch", "numpy", "simpleitk"}
    assert pip[2]["no_deps_requirements"][-1].startswith("dynamic-network-architectures>=")
    assert pip[2]["skip_packages"] is None
    assert pip[2]["blocking"] is False
    held = Path(pip[2]["constraints"]).read_text(encoding="utf-8").splitlines()
    assert {line.partition("==")[0] for line in held} >= {"torch", "numpy", "simpleitk"}
    absent.clear()
    window.installers.finish()
    window.wait_until(lambda: "can be imported" in window.ui.installLabel.text)
    assert not slicer.app.userSettings().value(part("installing").PENDING)
    assert window.ui.packagesLabel.text.startswith("All 3 found.")


def test_installing_in_slicer_5_10(window: Window, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    absent = begin(window, monkeypatch, "peft", packaging=False)
    fake = window.installers.pip_install_510

    def says_something(requirements: Any) -> None:
        print("Collecting a fake of pip")
        absent.clear()
        fake(requirements)

    monkeypatch.setattr(slicer.util, "pip_install", says_something)
    window.click(window.ui.installButton)
    window.wait_until(lambda: "can be imported" in window.ui.installLabel.text)
    alone, rest = (call[1] for call in window.installers.calls)
    assert alone[:2] == ["--no-deps", "--only-binary=:all:"]
    assert rest[-2] == "-c"
    assert "Collecting a fake of pip" in log().read_text(encoding="utf-8")


def log() -> Path:
    return Path(slicer.app.userSettings().fileName()).parent / part("installing").LOG


def test_pip_that_fails_is_told_with_its_last_lines(window: Window, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    begin(window, monkeypatch, "peft")
    window.installers.fails = subprocess.CalledProcessError(1, "pip")
    log().write_text("ERROR: No matching distribution found for peft\n", encoding="utf-8")
    window.dialogs.expect("returned non-zero exit status 1")
    window.click(window.ui.installButton)
    window.wait_until(lambda: len(window.dialogs.shown) == 2)
    told = window.dialogs.shown[-1]
    assert "No matching distribution found for peft" in told
    assert str(log()) in told
    assert "Press Go on installing after mending it" in told
    assert window.ui.packagesLabel.text.endswith("peft. Press Go on installing.")
    assert window.ui.installButton.text == "Go on installing"
    window.installers.fails = None
    window.click(window.ui.installButton)  # what was agreed to is not asked again
    window.wait_until(lambda: len(window.installers.calls) == 2)


def test_without_the_extension_pytorch_it_is_told_how_to_get_it(
    window: Window,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begin(window, monkeypatch, "torch", torch=False)
    window.dialogs.expect("Extensions Manager")
    window.click(window.ui.installButton)
    assert window.installers.calls == []


def test_torch_that_is_refused_stops_the_installation(window: Window, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    begin(window, monkeypatch, "torch", "peft")
    window.dialogs._script[-1] = ("PyTorch will be downloaded", False)
    window.click(window.ui.installButton)
    assert "as you wished" in window.ui.installLabel.text
    assert window.installers.calls == []
    assert window.ui.installButton.text == "Install packages..."


def test_a_pip_that_outlives_the_window_disturbs_nobody(window: Window, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    absent = begin(window, monkeypatch, "peft")
    window.click(window.ui.installButton)
    window.wait_until(lambda: window.installers.calls)
    window.close()
    absent.clear()
    window.installers.finish()
    window._open()
    window.wait_until(lambda: "can be imported" in window.ui.installLabel.text)  # it was agreed to, and is checked


@pytest.mark.parametrize(
    ("check", "told"),
    [
        ("raise SystemExit(3)", "does not run (exit code 3)"),
        ("import os; os.abort()", "does not run"),
        ("import json; print(json.dumps({'torch': 'OSError: libc10.so'}))", "torch (OSError: libc10.so)"),
    ],
)
def test_a_package_that_cannot_be_imported_is_named(
    window: Window,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    check: str,
    told: str,
) -> None:
    begin(window, monkeypatch, "peft")
    monkeypatch.setattr(part("install"), "CHECK", check)
    window.click(window.ui.installButton)
    window.dialogs.expect(told)
    window.wait_until(lambda: len(window.dialogs.shown) == 2)


def test_a_restart_goes_on_where_it_stopped(window: Window, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    absent = begin(window, monkeypatch, "peft")
    window.click(window.ui.installButton)
    window.wait_until(lambda: window.installers.calls)
    absent.clear()
    window.widget.panels[0]._installing._installer._before["numpy"] = "1.0"  # as if pip had replaced it
    window.dialogs.expect("Restart now?")
    window.installers.finish()
    window.wait_until(lambda: slicer.app.restarts)
    window.reopen()
    window.wait_until(lambda: "can be imported" in window.ui.installLabel.text)
    assert not slicer.app.userSettings().value(part("installing").PENDING)


def test_after_a_restart_that_left_something_to_do_nothing_is_installed_unasked(
    window: Window,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slicer.app.userSettings().setValue(part("installing").PENDING, True)
    lacking(monkeypatch, "peft")
    window.reopen()
    window.wait_until(lambda: "press Go on installing" in window.ui.installLabel.text)
    assert window.installers.calls == []


def test_all_that_is_needed_can_be_imported_by_a_child(window: Window) -> None:  # noqa: F811
    """The real check, of the real packages."""
    window.widget.panels[0]._installing._installer.check()
    window.wait_until(lambda: "can be imported" in window.ui.installLabel.text, 120)


def test_the_packages_looked_for_are_those_required(window: Window) -> None:  # noqa: F811
    """Those that a start of the command line imports once, after an installation."""
    text = (part("packages").REQUIREMENTS / "runtime.txt").read_text(encoding="utf-8")
    line = next(line for line in text.splitlines() if line.startswith("# imports: "))
    assert line.split()[2:] == part("packages").NEEDED


def test_requirements_are_understood(window: Window) -> None:  # noqa: F811
    packages = part("packages")
    for name in ("runtime", "without-dependencies"):
        for package, line in packages.requirements(name).items():
            assert Requirement(line).name.lower() == package
            assert all(sign.operator in (">=", "<") for sign in Requirement(line).specifier)
    assert packages.fits("1.6.1", ">=1.6.1,<1.7")
    assert packages.fits("2.14.0", ">=2.13")
    assert not packages.fits("1.10", "<1.7")
    assert not packages.fits("1.6", ">=1.6.1,<1.7")
    assert packages.unfit() == []


def test_a_package_of_another_extension_is_named_before_it_is_replaced(
    window: Window,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    packages, real = part("packages"), part("packages").version_of
    monkeypatch.setattr(
        packages, "version_of", lambda name: {"monai": "1.3.0", "numpy": "1.26.4"}.get(name, real(name))
    )
    assert packages.replaceable() == ["monai 1.3.0, not >=1.6.1,<1.7"]
    window.reopen()
    settled(window)
    assert not window.ui.systemGroupBox.collapsed
    assert "to replace what MedSeqFT is not tested with: monai 1.3.0" in window.ui.packagesLabel.text
    window.dialogs.expect("and will be replaced: monai 1.3.0", False)
    window.click(window.ui.installButton)


def test_a_version_that_pip_does_not_understand_is_no_constraint(
    window: Window,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    versions = {"torch": "2.13.0+cu128", "numpy": "2.3.1", "simpleitk": "2.5.0-g43b2"}
    monkeypatch.setattr(part("packages"), "version_of", versions.get)
    assert part("packages").constraints() == ["torch==2.13.0+cu128", "numpy==2.3.1"]


def test_another_numpy_of_slicer_is_told_and_stays(window: Window, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    packages, real = part("packages"), part("packages").version_of
    monkeypatch.setattr(packages, "version_of", lambda name: "2.0.2" if name == "numpy" else real(name))
    window.widget.session.changed()
    assert "which stay, though MedSeqFT is tested with others: numpy 2.0.2" in window.ui.packagesLabel.text
    assert not window.ui.installButton.isEnabled()


def test_looking_again(window: Window, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    settled(window)
    absent = lacking(monkeypatch, "peft")
    window.ui.systemGroupBox.collapsed = False
    window.click(window.ui.refreshButton)
    assert window.ui.packagesLabel.text.startswith("1 of 21 missing: peft.")
    absent.clear()
    window.click(window.ui.refreshButton)
    assert window.ui.packagesLabel.text.startswith("All 21 found.")


def test_an_anonymous_workspace_is_made_and_says_so(window: Window, tmp_path: Path) -> None:  # noqa: F811
    window.click(window.ui.anonymousCheckBox)
    window.dialogs.expect(MAKE, tmp_path / "new")
    click(window, window.ui.newWorkspaceButton)
    assert Workspace.open(tmp_path / "new").info.anonymous
    assert "Anonymous: names are random." in window.ui.workspaceLabel.text
    other = Workspace.create(tmp_path / "other")
    open_folder(window, other.folder)
    assert "Anonymous" not in window.ui.workspaceLabel.text
