"""What all kinds of fault share: the prepared workspace, a fresh copy for each trial, and the interface."""

from __future__ import annotations

import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from Faults.children import Server


class Bench:
    """A scratch folder with the template, and the server of children. Removed by whoever made the folder."""

    def __init__(self, scratch: Path, server: Server) -> None:
        self.server = server
        self._template = scratch / "template"
        self._trial = scratch / "trial"
        made = server.run("Faults.samples:make", self._template)
        if made.how != "done":
            raise RuntimeError(f"the workspace for the trials was not made: {made.text}")

    @contextmanager
    def fresh(self) -> Iterator[Path]:
        """A copy of the template; see samples for what is in it."""
        with self.fresh_in(self._trial) as folder:
            yield folder

    @contextmanager
    def fresh_in(self, folder: Path) -> Iterator[Path]:
        """The same in a place of its own, for instance on another disk."""
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self._template, folder)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


class Kind(ABC):
    """One kind of fault. `name` is what --only takes; `what` tells what is done, for the table."""

    name: str
    what: str
    few = 2  # trials in the ordinary tests

    def __init__(self, bench: Bench) -> None:
        self.bench = bench

    @property
    def unavailable(self) -> str:
        """Why it cannot be tried on this computer; empty if it can."""
        return ""

    @property
    @abstractmethod
    def trials(self) -> int:
        """How many there are; of an enumeration all of it."""

    @abstractmethod
    def run(self, seed: int) -> str:
        """Trial number `seed`: the same fault for the same number. Returns what happened and was checked.

        Raises Lost.
        """
