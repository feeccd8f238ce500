"""Processes on Linux, macOS and Windows."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from MedSeqFTLib.jobs import system

ROOT = Path(__file__).resolve().parents[2]

SLEEP = "import time; time.sleep(60)"
PARENT = f"import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', {SLEEP!r}]).pid, flush=True); {SLEEP}"


@pytest.fixture
def sleeper():
    process = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True)
    yield process
    for member in [*psutil.Process(process.pid).children(recursive=True), process] if process.poll() is None else []:
        member.kill()
    process.wait()
    process.stdout.close()


def test_posix_workers_get_a_session_of_their_own():
    for name in ("linux", "darwin"):
        assert system.detached_process_arguments(name) == {"start_new_session": True}


def test_windows_workers_get_a_hidden_console_of_their_own():
    create_new_process_group, create_no_window, detached = 0x200, 0x08000000, 0x8
    flags = system.detached_process_arguments("win32")["creationflags"]
    assert flags & create_new_process_group
    assert flags & create_no_window
    assert not flags & detached  # it would make Windows ignore the flag above


def test_present_platform_accepts_the_arguments():
    arguments = system.detached_process_arguments()
    assert subprocess.run([sys.executable, "-c", ""], check=False, **arguments).returncode == 0


@pytest.mark.parametrize(
    ("present", "platform", "expected"),
    [(0, "linux", 5), (15, "linux", 15), (0, "darwin", 5), (psutil.Process().nice(), "win32", 0x4000)],
)
def test_background_priority(present, platform, expected):
    assert system.background_priority(present, platform) == expected


def test_usable_cores():
    assert 1 <= system.usable_cores() <= os.cpu_count()
    assert system.usable_cores("darwin") == (psutil.cpu_count(logical=False) or psutil.cpu_count())


def test_a_process_is_known_by_its_number_and_its_birth():
    created = system.create_time(os.getpid())
    assert system.process_is(os.getpid(), created)
    assert not system.process_is(os.getpid(), created - 100)


def test_a_dead_process_that_nobody_waited_for_is_dead():
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    created = system.create_time(process.pid)
    assert system.process_is(process.pid, created)
    process.stdin.close()
    deadline = time.monotonic() + 10
    while system.process_is(process.pid, created) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not system.process_is(process.pid, created)  # a zombie on POSIX
    process.wait()
    assert not system.process_is(process.pid, created)  # gone


def test_kill_tree_takes_the_children_too(sleeper):
    child = int(sleeper.stdout.readline())
    created = {pid: system.create_time(pid) for pid in (sleeper.pid, child)}
    assert all(system.process_is(pid, created[pid]) for pid in created)
    system.kill_tree(sleeper.pid, created[sleeper.pid])
    assert not any(system.process_is(pid, created[pid]) for pid in created)


def test_kill_tree_spares_a_stranger_with_the_same_number(sleeper):
    sleeper.stdout.readline()
    system.kill_tree(sleeper.pid, system.create_time(sleeper.pid) - 100)
    assert sleeper.poll() is None


def test_kill_tree_of_a_process_that_is_gone_does_nothing():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    system.kill_tree(process.pid)
    assert process.returncode == 0


ALLOCATION = """
import sys, resource
from MedSeqFTLib.jobs.system import keep_freed_memory
kept = sys.argv[1] == "keep" and keep_freed_memory()
for _ in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    bytearray(2**26)[0] = 1
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc gives freed memory back at once")
def test_freed_memory_is_kept_for_the_next_use():
    faults = {}
    for how in ("keep", "leave"):
        printed = subprocess.check_output([sys.executable, "-c", ALLOCATION, how], text=True, cwd=ROOT)
        faults[how] = int(printed.split()[-1])
    assert faults["keep"] < 10 < 1000 < faults["leave"]


def test_other_systems_are_left_alone():
    assert not system.keep_freed_memory("")
