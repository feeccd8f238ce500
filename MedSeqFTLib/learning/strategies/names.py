"""The strategies by name: what they are called, and the settings that each usually has. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Known:
    """`settings`: those other than the defaults."""

    title: str
    settings: Mapping[str, str] = field(default_factory=dict)


STRATEGIES: Mapping[str, Known] = {
    "parallel": Known("Parallel"),
    "multi-task": Known("Multi-task"),
    "sequential": Known("Sequential"),
    "lwf": Known("LwF"),
    "ewc": Known("EWC"),
    "replay": Known("Replay", {"selection": "random"}),
    "lora": Known("LoRA only"),
    "linear-probe": Known("Linear probe"),
    "medseqft": Known("MedSeqFT"),
}
