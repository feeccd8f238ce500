"""run.py, started as a user starts it: real environments, real pip, real kills. The libraries are tiny local wheels."""

from __future__ import annotations

import ast
import json
import os
import runpy
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).resolve().parents[2]
COMMAND = "import json, os, sys, tiny\nprint(json.dumps([sys.argv[1:], os.getcwd(), tiny.__version__]))\nsys.exit(7)\n"
CHECK = "import os, sys\nprint(NAME, *sys.argv[1:])\nsys.exit(int(os.environ.get('FAIL_' + NAME, '0')))\n"
TINY = "# imports: tiny\ntiny==1.0\n"
ALONE = "# imports: alone\nalone==1.0\n"
POSIX = pytest.mark.skipif(os.name == "nt", reason="signals and inherited locks are POSIX")


def make_wheel(folder: Path, name: str, version: str, files: dict[str, str], asks_for: str = "") -> None:
    """A wheel of these Python files. `asks_for`: a package that pip should install along with it."""
    info = f"{name}-{version}.dist-info"
    wanted = f"Requires-Dist: {asks_for}\n" if asks_for else ""
    content = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{wanted}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},,\n" for path in (*content, f"{info}/RECORD"))
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        for path, text in {**content, f"{info}/RECORD": record}.items():
            wheel.writestr(path, text)


class Project:
    """A copy of run.py with tiny requirements, in a folder whose name has a space and an umlaut."""

    def __init__(self, folder: Path, wheels: Path) -> None:
        self.folder = folder / "my pröject"
        self.requirements = self.folder / "Resources" / "Requirements"
        self.requirements.mkdir(parents=True)
        shutil.copy(ROOT / "run.py", self.folder)
        commands = self.folder / "MedSeqFTLib" / "commands"
        commands.mkdir(parents=True)
        (commands / "__main__.py").write_text(COMMAND, encoding="utf-8")
        self.pin("runtime", TINY)
        self.pin("without-dependencies", ALONE)
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "PYTHON"))}
        self.variables = {**kept, "PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels)}

    def pin(self, part: str, text: str) -> None:
        (self.requirements / f"{part}.txt").write_text(text, encoding="utf-8")

    def begin(self, *arguments: str, **variables: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, str(self.folder / "run.py"), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            env={**self.variables, **variables},
            cwd=self.folder.parent,
        )

    def run(self, *arguments: str, **variables: str) -> tuple[int, str, str]:
        """Exit code, stdout, stderr."""
        child = self.begin(*arguments, **variables)
        output, errors = child.communicate(timeout=120)
        return child.returncode, output, errors

    def record(self) -> dict[str, object]:
        return json.loads((self.folder / ".venv" / "medseqft.json").read_text(encoding="utf-8"))

    def site_packages(self) -> Path:
        """The environment's libraries."""
        return next((self.folder / ".venv").glob("[lL]ib/**/site-packages"))


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheels")
    for version in ("1.0", "2.0"):
        make_wheel(folder, "tiny", version, {"tiny/__init__.py": f"__version__ = '{version}'\n"})
    slow = {f"tiny/part{number}.py": f"value = {number}\n" for number in range(2500)}
    make_wheel(folder, "tiny", "3.0", {"tiny/__init__.py": "__version__ = '3.0'\n", **slow})
    make_wheel(folder, "alone", "1.0", {"alone.py": ""}, asks_for="tiny>=2")
    make_wheel(folder, "broken", "1.0", {"broken.py": "raise ImportError('libfoo.so.1 is missing')\n"})
    checks = {f"{name}/__init__.py": "" for name in ("ruff", "mypy", "pytest")}
    mains = {f"{name}/__main__.py": f"NAME = '{name}'\n{CHECK}" for name in ("ruff", "mypy", "pytest")}
    make_wheel(folder, "checks", "1.0", {**checks, **mains})
    return folder


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory, wheels: Path) -> Project:
    """A project after its first start."""
    project = Project(tmp_path_factory.mktemp("ready"), wheels)
    code, output, errors = project.run("first")
    assert code == 7, errors
    assert json.loads(output)[0] == ["first"], "stdout belongs to the command alone"
    assert [line.split(":")[1].strip() for line in errors.splitlines() if "step" in line] == [
        "step 1 of 3",
        "step 2 of 3",
        "step 3 of 3",
    ]
    return project


@pytest.fixture
def project(tmp_path: Path, wheels: Path) -> Iterator[Project]:
    """A project before its first start. Whatever is still running at the end is ended."""
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    yield Project(tmp_path, wheels)
    for child in psutil.Process().children(recursive=True):
        if child.pid not in before:
            child.kill()


def wait_for(condition: Callable[[], object], child: subprocess.Popen[str]) -> None:
    """Until the condition holds while the child is still at work."""
    deadline = time.monotonic() + 60
    while not condition():
        assert child.poll() is None, "it ended before it could be interrupted"
        assert time.monotonic() < deadline, "it never came to that point"
        time.sleep(0.002)


def kill_all(child: subprocess.Popen[str]) -> None:
    """kill -9 for the launcher and all that it started: a power cut, as far as files are concerned."""
    for process in (psutil.Process(child.pid), *psutil.Process(child.pid).children(recursive=True)):
        process.kill()
    child.communicate()


def gone(process: psutil.Process) -> bool:
    """Whether a process has ended, even if nobody has asked for its exit code yet."""
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def unpacking(project: Project) -> bool:
    """Whether pip is in the middle of unpacking the large version of tiny."""
    return len(list((project.site_packages() / "tiny").glob("part*.py"))) > 300


def test_second_start_is_quick_and_silent(ready: Project) -> None:
    before = ready.record()
    begun = time.monotonic()
    code, output, errors = ready.run("two words", "--x=ü", PYTHONPATH="elsewhere")
    assert time.monotonic() - begun < 3
    assert (code, errors) == (7, "")
    assert json.loads(output) == [["two words", "--x=ü"], str(ready.folder.parent), "1.0"]
    assert ready.record() == before


def test_what_a_library_asks_for_does_not_replace_a_pin(ready: Project) -> None:
    assert list(ready.site_packages().glob("alone-1.0.dist-info"))
    assert list(ready.site_packages().glob("tiny-1.0.dist-info")), "alone asks for tiny 2"
    assert set(ready.record()["parts"]) >= {"runtime", "without-dependencies"}  # type: ignore[call-overload]


def test_libraries_elsewhere_do_not_count(project: Project, tmp_path: Path) -> None:
    """A PYTHONPATH or PIP_TARGET of the user's would otherwise satisfy pip, or send the libraries astray."""
    make_wheel(tmp_path, "tiny", "1.0", {"tiny/__init__.py": "__version__ = 'foreign'\n"})
    foreign = tmp_path / "foreign"
    with zipfile.ZipFile(tmp_path / "tiny-1.0-py3-none-any.whl") as wheel:
        wheel.extractall(foreign)
    diverting = {"PYTHONPATH": str(foreign), "PIP_TARGET": str(tmp_path / "target"), "PIP_USER": "1"}
    code, output, errors = project.run(**diverting)
    assert code == 0 and "python3 run.py" in output, errors  # no command: what there is, without installing anything
    code, output, errors = project.run("go", **diverting)
    assert code == 7, errors
    assert json.loads(output)[2] == "1.0"
    assert not (tmp_path / "target").exists()


def test_changed_pins_are_installed_and_a_moved_folder_is_rebuilt(ready: Project, tmp_path: Path) -> None:
    try:
        ready.pin("runtime", TINY.replace("1.0", "2.0"))
        code, output, errors = ready.run("go")
        assert (code, json.loads(output)[2]) == (7, "2.0")
        assert "step 1" not in errors and "step 2" in errors
    finally:
        ready.pin("runtime", TINY)
    moved = Project(tmp_path, Path(ready.variables["PIP_FIND_LINKS"]))
    shutil.copytree(ready.folder / ".venv", moved.folder / ".venv", symlinks=True)
    code, output, errors = moved.run("go")
    assert (code, json.loads(output)[2]) == (7, "1.0")
    assert "was moved or copied; making it anew" in errors
    assert not list(moved.folder.glob(".venv-old-*"))


def test_checks_all_run_and_one_failure_counts(ready: Project) -> None:
    ready.pin("test", "# imports: ruff mypy pytest\nchecks==1.0\n")
    code, output, errors = ready.run("test", "-k", "one two")
    assert code == 0, errors
    *style, pytest_line = output.splitlines()
    assert style == ["ruff check .", "ruff format --check .", "mypy"]
    assert pytest_line.startswith("pytest -n ")
    assert pytest_line.endswith(" -k one two"), "arguments come last, so that they win"
    code, output, errors = ready.run("test", FAIL_mypy="2")
    assert code == 1
    assert output.splitlines()[-1].startswith("pytest"), "later checks run all the same"
    assert errors.splitlines()[-1] == "MedSeqFT: failed: mypy"


def last_line(errors: str) -> str:
    assert "Traceback" not in errors
    return errors.splitlines()[-1]


def test_unreachable_index_is_one_line(ready: Project) -> None:
    ready.pin("runtime", "# imports: tiny\nother==1.0\n")
    try:
        local = {"PIP_NO_INDEX": "0", "PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_RETRIES": "1"}
        code, _, errors = ready.run("go", **local)
        assert code == 4
        assert last_line(errors).startswith("MedSeqFT: the package index cannot be reached")
        code, _, errors = ready.run("go")
        assert code == 4
        assert "offers no other==1.0 for this Python and system" in last_line(errors)
        assert "No matching distribution" in (ready.folder / ".venv-install.log").read_text(encoding="utf-8")
    finally:
        ready.pin("runtime", TINY)
    assert ready.run("go")[0] == 7, "the failed installation did no harm"


def test_unusable_library_is_named_and_not_recorded(ready: Project) -> None:
    ready.pin("runtime", "# imports: broken\nbroken==1.0\n")
    try:
        code, _, errors = ready.run("go")
        assert code == 4
        assert "making .venv anew" in errors, "an environment that was there before may be at fault"
        assert "ImportError: libfoo.so.1 is missing" in last_line(errors)
        assert ready.record()["parts"] == {}
    finally:
        ready.pin("runtime", TINY)
    assert ready.run("go")[0] == 7


def test_a_foreign_environment_is_left_alone(project: Project) -> None:
    own = project.folder / ".venv" / "precious.txt"
    own.parent.mkdir()
    own.write_text("mine", encoding="utf-8")
    code, _, errors = project.run("go")
    assert code == 4
    assert "was not made by run.py; move it away" in last_line(errors)
    assert own.read_text(encoding="utf-8") == "mine"


def test_killed_while_making_the_environment(project: Project) -> None:
    child = project.begin("go")
    wait_for((project.folder / ".venv" / "pyvenv.cfg").exists, child)
    kill_all(child)
    assert "python" not in project.record()
    code, _, errors = project.run("go")
    assert code == 7, errors
    assert "interrupted while it made .venv; making it anew" in errors


@pytest.fixture
def upgrading(ready: Project) -> Iterator[tuple[Project, subprocess.Popen[str]]]:
    """A start that is in the middle of replacing tiny 1.0 with the large 3.0."""
    ready.pin("runtime", TINY)
    assert ready.run("go")[0] == 7
    ready.pin("runtime", TINY.replace("1.0", "3.0"))
    child = ready.begin("go")
    wait_for(lambda: unpacking(ready), child)
    yield ready, child
    ready.pin("runtime", TINY)


def test_killed_while_pip_unpacks(upgrading: tuple[Project, subprocess.Popen[str]]) -> None:
    project, child = upgrading
    kill_all(child)
    assert project.record()["parts"] == {}
    half = project.site_packages() / "tiny-3.0.dist-info"
    assert not (half / "RECORD").exists()
    # What makes such a moment dangerous: pip takes a library whose METADATA is there for installed.
    half.mkdir(exist_ok=True)
    (half / "METADATA").write_text("Metadata-Version: 2.1\nName: tiny\nVersion: 3.0\n", encoding="utf-8")
    code, output, errors = project.run("go")
    assert (code, json.loads(output)[2]) == (7, "3.0"), errors
    assert "step 1" not in errors, "the environment itself was whole"
    assert len(list((project.site_packages() / "tiny").glob("part*.py"))) == 2500


@POSIX
def test_pip_that_outlives_its_launcher_is_waited_for(upgrading: tuple[Project, subprocess.Popen[str]]) -> None:
    project, child = upgrading
    pip = psutil.Process(child.pid).children()[0]
    child.kill()
    child.communicate()
    assert not gone(pip)
    code, output, errors = project.run("go")
    assert (code, json.loads(output)[2]) == (7, "3.0"), errors
    assert errors.splitlines()[0] == "MedSeqFT: another start is preparing .venv; waiting for it"
    assert gone(pip)


@POSIX
def test_ctrl_c_ends_pip_too(upgrading: tuple[Project, subprocess.Popen[str]]) -> None:
    project, child = upgrading
    pip = psutil.Process(child.pid).children()[0]
    child.send_signal(signal.SIGINT)
    _, errors = child.communicate(timeout=30)
    assert child.returncode == 130
    assert last_line(errors) == "MedSeqFT: interrupted; the next start goes on from here"
    assert gone(pip)
    assert project.record()["parts"] == {}


def test_two_first_starts_at_once(project: Project) -> None:
    children = [project.begin("go") for _ in range(2)]
    results = [child.communicate(timeout=120) for child in children]
    assert [child.returncode for child in children] == [7, 7]
    assert sorted("step 1" in errors for _, errors in results) == [False, True], "only one of them makes it"


@pytest.mark.parametrize(
    ("printed", "meaning"),
    [
        ("OSError: [Errno 28] No space left on device: 'x'", "the disk is full"),
        ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", "the disk is full"),
        ("The virtual environment was not created successfully because ensurepip is not\navailable.", "python3-venv"),
        ("No module named venv", "python3-venv"),
        ("SSLError(SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED]", "PIP_CERT"),
        ("WARNING: Retrying after connection broken by 'ProxyError('Cannot connect to proxy.'", "HTTPS_PROXY"),
        (
            "connection broken by 'NewConnectionError(: [Errno -2] Name or service not known')'\n"
            "ERROR: No matching distribution found for torch==2.13.0",
            "cannot be reached",
        ),
        ("ERROR: Could not find a version that satisfies the requirement a==1 (from versions: none)", "or cannot be"),
        ("ERROR: No matching distribution found for torch==2.13.0", "offers no torch==2.13.0"),
        ("PermissionError(13, 'Permission denied')", "check its permissions"),
        ("something new", "pip failed"),
    ],
)
def test_causes(printed: str, meaning: str) -> None:
    assert meaning in runpy.run_path(str(ROOT / "run.py"))["cause"](printed, "pip failed")


def test_other_pythons_are_told_which_one_is_needed() -> None:
    text = (ROOT / "run.py").read_text(encoding="utf-8")
    ast.parse(text, feature_version=(3, 7))
    launcher = f"exec(compile(open({str(ROOT / 'run.py')!r}, encoding='utf-8').read(), 'run.py', 'exec'))"
    code = f"import sys; sys.version_info = (3, 9, 1); {launcher}"
    old = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert old.returncode == 4
    assert old.stderr.count("\n") == 1 and "needs Python 3.10, 3.11 or 3.12" in old.stderr
