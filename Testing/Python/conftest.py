"""Settings for all tests."""

from __future__ import annotations

import os
import signal

os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # before torch is imported: workers compute beside the tests

from hypothesis import settings

settings.register_profile("shared machine", deadline=None)  # a busy machine is slow, not wrong
settings.load_profile("shared machine")

# A shell's background job starts with Ctrl-C ignored, and its children would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
