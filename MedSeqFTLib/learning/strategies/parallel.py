"""Parallel fine-tuning: every task begins with the foundation model; nothing is shared."""

from __future__ import annotations

from MedSeqFTLib.learning.strategies.fine_tuning import FineTuning


class Parallel(FineTuning):
    description = "Full fine-tuning of the foundation model, for each task anew."
    keeps = "nothing; one model a task"
    begins_with = "foundation model"
    single_model = "none"
