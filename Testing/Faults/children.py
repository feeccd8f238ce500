"""Processes that do an act and may be killed, or have their system calls fail.

A server imports the library once and forks: a child begins within milliseconds. It stands in for a fresh start of
Python, which takes seconds with torch; what the child does is the product's own code.
"""

from __future__ import annotations

import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from Faults import seccomp
from Faults.calls import Call, described

TESTING = Path(__file__).resolve().parents[1]
_PRELOADED = (
    "MedSeqFTLib.learning.adaptation",
    "MedSeqFTLib.learning.errands",
    "MedSeqFTLib.learning.segmenting",
    "MedSeqFTLib.jobs.worker",
    "MedSeqFTLib.imaging.revision",
    "peft",
    "Faults.acts",
)
_MESSAGE = 1 << 16  # bytes
#: Told of each call before it happens, returns the error that it shall fail with; 0: it passes.
Decide = Callable[[Call], int]
KILL = -1  # a decision: the process is killed before the call happens


@dataclass(frozen=True)
class Ended:
    """How a child ended: done, refused with one of the product's own errors, killed, or by a bug."""

    how: str  # "done", "refused", "killed", "bug"
    text: str = ""


class Child:
    """A process that does one act."""

    def __init__(self, server: Server, function: str, arguments: tuple[str, ...], watched: bool) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            server.request({"function": function, "arguments": arguments, "watched": watched}, theirs)
        data, descriptors, _, _ = socket.recv_fds(self._socket, _MESSAGE, 1)
        self.pid = int(data)
        self._listener = descriptors[0] if descriptors else None
        self._socket.send(b"go")

    def kill(self) -> None:
        """SIGKILL."""
        try:
            os.kill(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            return

    def wait(self, timeout: float | None = None) -> Ended | None:
        """How it ended; None if it goes on after `timeout` seconds."""
        self._socket.settimeout(timeout)
        try:
            data = self._socket.recv(_MESSAGE)
        except TimeoutError:
            return None
        except ConnectionResetError:
            data = b""
        if data:
            self._socket.settimeout(None)
            self._socket.recv(1)  # until the process is gone
        self._socket.close()
        return Ended(**json.loads(data)) if data else Ended("killed")

    def watch(self, decide: Decide) -> Ended:
        """Decide on each of its calls, and of the processes that it starts, until it ends."""
        assert self._listener is not None
        poll = select.poll()
        poll.register(self._listener, select.POLLIN)
        poll.register(self._socket, select.POLLIN)
        try:
            while self._socket.fileno() not in (ready := dict(poll.poll())):
                if ready.get(self._listener, 0) & select.POLLIN:
                    self._decide(decide)
            ended = self._after_its_word(decide)
        finally:
            os.close(self._listener)
        return ended

    def _after_its_word(self, decide: Decide) -> Ended:
        """It has said how it ended; what it writes while it leaves passes, until it is gone."""
        while (ended := self.wait(0.01)) is None:
            self._drain(decide)
        return ended

    def _drain(self, decide: Decide) -> None:
        assert self._listener is not None
        if select.select([self._listener], [], [], 0)[0]:
            self._decide(decide)

    def _decide(self, decide: Decide) -> None:
        assert self._listener is not None
        note = seccomp.receive(self._listener)
        if note is None:
            return
        call = described(note)
        error = decide(call) if call else 0
        if error == KILL:
            self.kill()
        else:
            seccomp.answer(self._listener, note, error)


class Server:
    """The process that forks. Use it in a `with`.

    Args:
        log: takes what children write to stderr, as a worker's log does.
    """

    def __init__(self, log: Path) -> None:
        self._log_path = log

    def __enter__(self) -> Server:
        self._log = self._log_path.open("ab")
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        paths = [str(TESTING.parent), str(TESTING), str(TESTING / "Python")]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "Faults.children", str(theirs.fileno())]
        self._process = subprocess.Popen(command, env=environment, pass_fds=[theirs.fileno()], stderr=self._log)
        theirs.close()
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()
        self._process.wait()
        self._log.close()

    def child(self, function: str, *arguments: object, watched: bool = False) -> Child:
        """A process that calls `module:function` with texts as its arguments."""
        return Child(self, function, tuple(map(str, arguments)), watched)

    def run(self, function: str, *arguments: object) -> Ended:
        """The same, and wait for its end."""
        ended = self.child(function, *arguments).wait()
        assert ended is not None
        return ended

    def request(self, what: dict[str, object], theirs: socket.socket) -> None:
        socket.send_fds(self._socket, [json.dumps(what).encode()], [theirs.fileno()])


def serve(connection: socket.socket) -> None:
    """Fork a child for each request, until the other side is gone."""
    _prepare()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel clears ended children away
    while True:
        data, descriptors, _, _ = socket.recv_fds(connection, _MESSAGE, 1)
        if not data:
            return
        if os.fork() == 0:
            connection.close()
            _be_child(json.loads(data), socket.socket(fileno=descriptors[0]))
        os.close(descriptors[0])


def _prepare() -> None:
    from MedSeqFTLib.quick_import import import_monai

    import_monai()
    for name in _PRELOADED:
        importlib.import_module(name)
    import SimpleITK
    import torch

    torch.set_num_threads(1)
    SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(1)


def _be_child(request: dict[str, object], report: socket.socket) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    module, function = str(request["function"]).split(":")
    act = getattr(importlib.import_module(module), function)
    listener = [seccomp.intercept()] if request["watched"] else []
    socket.send_fds(report, [str(os.getpid()).encode()], listener)
    for descriptor in listener:
        os.close(descriptor)
    report.recv(2)
    report.send(json.dumps(_outcome(act, request["arguments"]).__dict__).encode()[:_MESSAGE])
    os._exit(0)


def _outcome(act: Callable[..., object], arguments: object) -> Ended:
    from MedSeqFTLib.errors import MedSeqFTError

    try:
        found = act(*arguments)  # type: ignore[misc]
    except MedSeqFTError as error:
        return Ended("refused", str(error))
    except BaseException:  # noqa: BLE001  # whatever else comes out is told as the bug that it is
        return Ended("bug", traceback.format_exc()[-4000:])
    return Ended("done", "" if found is None else str(found))


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
