"""The names of the strategies, and the settings that each usually has. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping

#: name -> settings other than the defaults
STRATEGIES: Mapping[str, Mapping[str, str]] = {
    "parallel": {},
    "multi-task": {},
    "sequential": {},
    "lwf": {},
    "ewc": {},
    "replay": {"selection": "random"},
    "lora": {},
    "linear-probe": {},
    "medseqft": {},
}
