"""Naive sequential fine-tuning: every task begins where the one before it ended."""

from __future__ import annotations

from MedSeqFTLib.learning.strategies.fine_tuning import FineTuning


class Sequential(FineTuning):
    description = "Full fine-tuning of the previous task's model, with nothing against forgetting."
    keeps = "nothing"
