"""Loading MONAI without what we do not use of it."""

from __future__ import annotations

import importlib
import sys


def import_monai() -> None:
    """Import MONAI in about two thirds of the time.

    Where `transformers` is installed (peft needs it), MONAI loads its BERT code for one network that we do not use. So
    it is hidden while MONAI is imported, which MONAI takes as "not installed"; peft finds it afterwards.
    """
    hidden = "transformers"
    if "monai" in sys.modules or hidden in sys.modules:
        return
    sys.modules[hidden] = None  # type: ignore[assignment]
    try:
        importlib.import_module("monai")
    finally:
        del sys.modules[hidden]
