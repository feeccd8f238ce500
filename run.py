"""Starts MedSeqFT: makes the environment `.venv` beside this file on first use, then runs a command in it.

    python3 run.py COMMAND ...          a command of MedSeqFT; `python3 run.py --help` lists them
    python3 run.py test [PYTEST ...]    ruff, mypy and pytest over the project; the arguments go to pytest

The first start installs the pinned libraries of Resources/Requirements with pip, into `.venv` only. An interrupted
start is finished by the next one. pip's own settings (PIP_INDEX_URL, PIP_FIND_LINKS, PIP_CERT, pip.conf ...) apply.

Exit codes: those of the command (0 done; 1 a job failed or was cancelled; 2 unusable input; 3 internal error);
`test`: 0 all checks passed, 1 one failed; 4 the environment could not be prepared; 130 interrupted by Ctrl-C.
"""

# No `from __future__ import annotations`: an old Python must be able to read this file, to say which one it needs.
import hashlib
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

if not (3, 10) <= sys.version_info[:2] <= (3, 12):
    found = [name for name in ("python3.12", "python3.11", "python3.10") if shutil.which(name)]
    advice = f"start it as: {found[0]} run.py" if found else "install one of them and start this with it"
    sys.stderr.write(f"MedSeqFT: needs Python 3.10, 3.11 or 3.12, this is {platform.python_version()}; {advice}\n")
    sys.exit(4)

#: The part whose packages are installed without what they ask for.
ALONE = "without-dependencies"
RUNTIME = ("runtime", ALONE)
#: What pip fetches on a first start (sum of the wheels' sizes).
DOWNLOAD = {
    "linux": "about 3 GB with torch's CUDA build, 0.4 GB where pip is pointed at its CPU build",
    "win32": "about 0.3 GB",
    "darwin": "about 0.3 GB",
}
#: Less free space cannot hold even the smallest environment, so nothing is begun.
LEAST_FREE_BYTES = 2_500_000_000
#: Variables that would make pip install elsewhere, or Python import from elsewhere.
DIVERTING = (
    "PIP_USER PIP_TARGET PIP_PREFIX PIP_ROOT PIP_PYTHON PIP_DRY_RUN PYTHONPATH PYTHONHOME __PYVENV_LAUNCHER__".split()
)
CHECKS = {
    "ruff check": ("ruff", "check", "."),
    "ruff format": ("ruff", "format", "--check", "."),
    "mypy": ("mypy",),
    # A file's tests share what is costly to prepare. More processes than four would ask for much memory.
    "pytest": ("pytest", *"-n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder".split()),
}
#: What pip or venv printed -> what it means. The first match counts: a lost network also ends in "no matching".
CAUSES = (
    (r"No space left|Errno 28|not enough space|Disk quota", "the disk is full; free some space and start again"),
    (
        r"ensurepip is not|No module named '?(ensurepip|venv)",
        "this Python has no venv; Debian: apt install python3-venv",
    ),
    (r"CERTIFICATE_VERIFY_FAILED|SSLError", "the package index's certificate was refused; set PIP_CERT to your site's"),
    (r"ProxyError|Tunnel connection failed", "the proxy refused the connection; check HTTPS_PROXY"),
    (
        r"NameResolution|getaddrinfo|NewConnection|ConnectTimeout|ReadTimeout|Connection refused|Network is unreachable"
        r"|Max retries|name resolution|Connection reset|IncompleteRead|ProtocolError|Connection aborted",
        "the package index cannot be reached; check the network (PIP_INDEX_URL, HTTPS_PROXY) and start again",
    ),
    (
        r"Permission ?denied|PermissionError|Access is denied",
        "a file could not be written; check its permissions",
    ),
    (
        r"requirement (\S+) \(from versions: none\)",
        r"the package index offers no \1 for this Python and system, or cannot be reached",
    ),
    (r"No matching distribution found for (\S+)", r"the package index offers no \1 for this Python and system"),
)


class SetupError(Exception):
    """The environment cannot be prepared. The message is one line for the user."""


class UnusableError(SetupError):
    """Everything is installed, but cannot be imported."""


def say(text: str) -> None:
    """Prints one line to stderr: stdout belongs to the command."""
    print(f"MedSeqFT: {text}", file=sys.stderr, flush=True)


def cause(printed: str, otherwise: str) -> str:
    """One line that says why pip or venv failed, from what it printed."""
    for pattern, meaning in CAUSES:
        match = re.search(pattern, printed)
        if match:
            return match.expand(meaning)
    return otherwise


class Environment:
    """The folder `.venv` of a project, and the record of what was installed into it."""

    def __init__(self, project: Path) -> None:
        self.project = project
        self.folder = project / ".venv"
        self.python = self.folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
        self.log = project / ".venv-install.log"
        self.record_file = self.folder / "medseqft.json"

    def requirements(self, part: str) -> Path:
        """The pinned requirement file of a part: `runtime`, `without-dependencies` or `test`."""
        return self.project / "Resources" / "Requirements" / f"{part}.txt"

    def modules(self, part: str) -> list[str]:
        """What is imported once as a check: the names in the `# imports:` line of the requirement file."""
        match = re.search(r"^# imports: (.+)$", self.requirements(part).read_text(encoding="utf-8"), re.MULTILINE)
        return match[1].split() if match else []

    def fingerprints(self, parts: Sequence[str]) -> dict[str, str]:
        """SHA-256 of the requirement files, by part."""
        return {part: hashlib.sha256(self.requirements(part).read_bytes()).hexdigest() for part in parts}

    def base_python(self) -> str:
        """The interpreter that the environment was made from; its path names the Python version on most systems."""
        if os.name != "nt":
            return os.path.realpath(self.python)
        home = re.search(r"^home = (.+)$", (self.folder / "pyvenv.cfg").read_text(encoding="utf-8"), re.MULTILINE)
        return str(Path(home[1].strip()) / "python.exe") if home else ""

    def record(self) -> dict[str, object]:
        """What earlier starts wrote down; empty when there is nothing readable."""
        try:
            record = json.loads(self.record_file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return record if isinstance(record, dict) else {}

    def write_record(self, **entries: object) -> None:
        """Replaces the record at once, never half."""
        partial = self.record_file.with_suffix(".partial")
        with open(partial, "w", encoding="utf-8", newline="\n") as file:
            json.dump({"project": str(self.project), **entries}, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, self.record_file)

    def installed(self) -> dict[str, str]:
        """The fingerprints of the parts that are completely installed."""
        parts = self.record().get("parts")
        return parts if isinstance(parts, dict) else {}

    def defect(self) -> str | None:
        """Why the present `.venv` cannot be used or finished, or None."""
        record = self.record()
        if not record:
            raise SetupError(f"{self.folder} was not made by run.py; move it away and start again")
        if record.get("project") != str(self.project):
            return "the project folder was moved or copied"
        if "python" not in record:
            return "an earlier start was interrupted while it made .venv"
        if not self.python.exists() or not os.path.exists(self.base_python()) or record["python"] != self.base_python():
            return "the Python that .venv was made with is gone or was replaced"
        return None

    def ready(self, parts: Sequence[str]) -> bool:
        """Whether these parts are installed, completely and as pinned now. Starts no process."""
        if not self.record() or self.defect():
            return False
        return self.fingerprints(parts).items() <= self.installed().items()


@contextmanager
def only_one(path: Path) -> Iterator[int]:
    """Waits until no other start prepares this environment; yields the lock's file descriptor.

    The lock goes with the process, also when that is killed. On POSIX a pip that outlives its killed parent keeps it.
    """
    with open(path, "a+b") as file:
        if not locked(file.fileno()):
            say("another start is preparing .venv; waiting for it")
            while not locked(file.fileno()):
                time.sleep(0.3)
        yield file.fileno()


def locked(descriptor: int) -> bool:
    """Takes the lock, or returns False when another process holds it."""
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True


@contextmanager
def heartbeat(step: str, seconds: float = 30.0) -> Iterator[None]:
    """Says every half minute that a step goes on, so that a long download does not look dead."""
    done, begun = threading.Event(), time.monotonic()

    def beat() -> None:
        while not done.wait(seconds):
            say(f"  still {step} ({(time.monotonic() - begun) / 60:.1f} min)")

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def own_variables() -> dict[str, str]:
    """The process environment without what would lead pip or Python astray."""
    return {name: value for name, value in os.environ.items() if name.upper() not in DIVERTING}


class Installation:
    """One attempt to bring an environment up to date. The caller holds the lock."""

    def __init__(self, environment: Environment, lock: int) -> None:
        self.environment = environment
        self.lock = lock

    def run(self, parts: Sequence[str]) -> None:
        """Finishes what is there, or starts afresh. An environment that cannot be imported is made anew, once."""
        self.environment.log.write_bytes(b"")
        finished_old = self.clear_away()
        if not finished_old:
            self.create()
        try:
            self.install(parts)
        except UnusableError as error:
            if not finished_old:
                raise
            say(f"{error}; making .venv anew")
            self.set_aside()
            self.create()
            self.install(parts)

    def clear_away(self) -> bool:
        """Moves an unusable `.venv` out of the way. Returns whether a usable one is left."""
        folder = self.environment.folder
        for leftover in self.environment.project.glob(".venv-old-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        if not folder.exists() or not any(folder.iterdir()):
            return False
        defect = self.environment.defect()
        if defect:
            say(f"{defect}; making it anew")
            self.set_aside()
        return defect is None

    def set_aside(self) -> None:
        """Removes `.venv`: renamed first, so that a half-removed one is never taken for a whole one."""
        old = self.environment.project / f".venv-old-{os.getpid()}"
        os.replace(self.environment.folder, old)
        shutil.rmtree(old, ignore_errors=True)

    def create(self) -> None:
        """Makes the empty environment. The record is written first: it marks the folder as ours."""
        environment = self.environment
        free = shutil.disk_usage(environment.project).free
        if free < LEAST_FREE_BYTES:
            raise SetupError(f"the disk has {free / 1e9:.1f} GB free, the libraries need at least 2.5 GB")
        say(f"step 1 of 3: making {environment.folder} with Python {platform.python_version()}")
        environment.folder.mkdir(exist_ok=True)
        environment.write_record()
        self.logged([sys.executable, "-I", "-m", "venv", str(environment.folder)], "making .venv")
        for packages in self.site_packages():
            # The project is found from any current directory, and also after the folder was renamed.
            line = "import os, sys; sys.path.append(os.path.dirname(sys.prefix))\n"
            (packages / "medseqft.pth").write_text(line, encoding="utf-8")
        environment.write_record(python=environment.base_python(), parts={})

    def install(self, parts: Sequence[str]) -> None:
        """Installs the pinned libraries and imports them once; only then the record names them."""
        environment = self.environment
        before = environment.installed()
        environment.write_record(python=environment.base_python(), parts={})  # from here on it is not whole
        self.drop_half_unpacked()
        size = "what is new" if before else DOWNLOAD.get(sys.platform, "about 3 GB")
        say(f"step 2 of 3: installing libraries (download: {size})")
        options = "--no-user --no-input --disable-pip-version-check --progress-bar off --only-binary :all:".split()
        pip = [str(environment.python), "-I", "-m", "pip", "install", *options]
        files = [str(environment.requirements(part)) for part in parts if part != ALONE]
        self.logged([*pip, *(f"--requirement={file}" for file in files)], "installing libraries")
        # With what these ask for, pip would replace torch.
        self.logged([*pip, "--no-deps", "-r", str(environment.requirements(ALONE))], "installing libraries")
        say("step 3 of 3: checking that they can be imported")
        code = "import importlib, sys\nfor name in sys.argv[1:]: importlib.import_module(name)"
        modules = [name for part in parts for name in environment.modules(part)]
        self.logged([str(environment.python), "-I", "-c", code, *modules], "importing", UnusableError)
        environment.write_record(python=environment.base_python(), parts={**before, **environment.fingerprints(parts)})
        say("the environment is ready")

    def site_packages(self) -> list[Path]:
        """The folder of installed libraries."""
        return [
            path for name in ("lib/python*", "Lib") for path in self.environment.folder.glob(f"{name}/site-packages")
        ]

    def drop_half_unpacked(self) -> None:
        """Forgets libraries that a killed pip left half unpacked. pip writes RECORD last, but trusts METADATA alone."""
        for packages in self.site_packages():
            half = [info for info in packages.glob("*.dist-info") if not (info / "RECORD").exists()]
            for path in (*half, *packages.glob("~*")):
                shutil.rmtree(path, ignore_errors=True)

    def logged(self, command: Sequence[str], step: str, error: type[SetupError] = SetupError) -> None:
        """Runs a child whose output goes to the log; raises `error` with the cause when it fails."""
        printed: deque[str] = deque(maxlen=400)
        with open(self.environment.log, "a", encoding="utf-8") as log, heartbeat(step):
            log.write(f"$ {' '.join(command)}\n")
            child = self.child(command)
            try:
                for line in child.stdout or ():
                    log.write(line)
                    printed.append(line.rstrip())
                    if re.search(r"Downloading .*\((\d{3}|[2-9]\d)\.\d MB\)", line):
                        say(f"  {line.strip()}")
                child.wait()
            finally:  # Ctrl-C, or a full disk while logging: pip must not outlive this start
                end(child)
        if child.returncode != 0:
            tail = [line for line in printed if line][-12:]
            sys.stderr.write("".join(f"    {line}\n" for line in tail))
            otherwise = f"{step} failed (exit code {child.returncode}): {tail[-1] if tail else 'no output'}"
            raise error(f"{cause(chr(10).join(printed), otherwise)} (all of it: {self.environment.log})")

    def child(self, command: Sequence[str]) -> "subprocess.Popen[str]":
        """Starts a child, and its own children, as one group. On POSIX it holds the lock too, should we be killed."""
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            env=own_variables(),
            cwd=self.environment.project,
            start_new_session=True,
            pass_fds=() if os.name == "nt" else (self.lock,),
        )


def end(child: "subprocess.Popen[str]") -> None:
    """Kills a child that still runs, with the children of its own."""
    if child.poll() is None:
        if sys.platform == "win32":
            child.kill()
        else:
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def prepare(environment: Environment, parts: Sequence[str]) -> None:
    """Makes sure that these parts are installed. Costs two small file reads when they are."""
    if environment.ready(parts):
        return
    with only_one(environment.project / ".venv.lock") as lock:
        if not environment.ready(parts):
            Installation(environment, lock).run(parts)


def wait(command: Sequence[str], folder: Path | None = None) -> int:
    """Runs a child to its end and returns its exit code. Ctrl-C reaches the child by itself and is its to answer."""
    child, interrupted = subprocess.Popen(command, env=own_variables(), cwd=folder), False
    while child.returncode is None:
        try:
            child.wait()
        except KeyboardInterrupt:
            interrupted = True
        except SystemExit:
            child.terminate()
            raise
    if interrupted and child.returncode:
        return 130
    return child.returncode if child.returncode >= 0 else 128 - child.returncode


def start(environment: Environment, arguments: Sequence[str]) -> int:
    """Runs a command in the environment. On POSIX this process becomes the command, signals and all."""
    command = [str(environment.python), "-I", "-X", "utf8", "-m", "MedSeqFTLib.commands", *arguments]
    if os.name == "nt":
        return wait(command)
    os.execve(command[0], command, own_variables())


def run_checks(environment: Environment, arguments: Sequence[str]) -> int:
    """Runs every check of the project, also after one failed. Returns 0, 1, or 130 after Ctrl-C."""
    failed = []
    for name, check in {**CHECKS, "pytest": (*CHECKS["pytest"], *arguments)}.items():
        say(" ".join(check))
        code = wait([str(environment.python), "-I", "-m", *check], environment.project)
        if code == 130:
            return code
        failed += [name] if code else []
    say(f"failed: {', '.join(failed)}" if failed else "all checks passed")
    return 1 if failed else 0


def main(arguments: Sequence[str]) -> int:
    """The exit code for these arguments."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # an exception, so that children are ended too
    environment = Environment(Path(__file__).resolve().parent)
    testing = list(arguments[:1]) == ["test"]
    parts = (*RUNTIME, "test") if testing else RUNTIME
    try:
        if (not arguments or arguments[0] in ("-h", "--help")) and not environment.ready(parts):
            print(__doc__)
            return 0
        prepare(environment, parts)
    except SetupError as error:
        say(str(error))
        return 4
    except OSError as error:
        say(cause(f"{error!r}", str(error)))
        return 4
    except KeyboardInterrupt:
        say("interrupted; the next start goes on from here")
        return 130
    return run_checks(environment, arguments[1:]) if testing else start(environment, arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
