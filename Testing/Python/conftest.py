"""Settings for all tests."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

# Both before torch is imported.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # workers of jobs compute beside the tests
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"  # tests that run at the same time share the cores

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from MedSeqFTLib.workspace.workspace import Workspace

settings.register_profile("shared machine", deadline=None)  # a busy machine is slow, not wrong
settings.load_profile("shared machine")

# A shell's background job starts with Ctrl-C ignored, and its children would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def adapted(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace with a tiny trained model, made once. Not to be changed: copy it."""
    from panel_samples import adapted_workspace  # needs Slicer's libraries, unlike most tests

    return adapted_workspace(tmp_path_factory.mktemp("adapted"))


@pytest.fixture(scope="session")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace with a task and no case, made once. Not to be changed: copy it."""
    from panel_samples import untrained_workspace

    return untrained_workspace(tmp_path_factory.mktemp("untrained"))


@pytest.fixture
def untrained_copy(untrained: Workspace, tmp_path: Path) -> Iterator[Workspace]:
    """One test's own; its workers end with it."""
    from panel_samples import copied, end_workers

    found = copied(untrained, tmp_path)
    yield found
    end_workers(found)
