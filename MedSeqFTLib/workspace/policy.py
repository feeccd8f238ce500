"""What the gate of a workspace lets through: part of workspace.json; every change of it is in the audit log."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from MedSeqFTLib.errors import InputError
from MedSeqFTLib.workspace.networks import Description

#: What may become current. better: by itself only what is shown to be better, and by hand; person: by hand only, with a
#: reason; never: nothing, the versions in use are frozen. A rollback is always possible.
Promotion = Literal["better", "person", "never"]
Margin = Annotated[float, Field(ge=0, le=1)]
BY_A_PERSON = "The policy of this workspace is 'person': every promotion is a person's, with a reason."
USABLE = "promotion is better, person or never; margins are Dice between 0 and 1."
FROZEN = "The policy of this workspace is 'never': nothing is promoted until the policy is changed."


class Policy(Description):
    """Margins are Dice."""

    promotion: Promotion = "better"
    margin: Margin = 0.01  # that the own task may lose without being called worse: a change that nobody would see
    earlier_margin: Margin = 0.05  # that the one model may lose on an earlier task

    def changed(self, values: Mapping[str, object]) -> Policy:
        """With some values changed, those that are not None. Raises InputError for one that is out of its range."""
        known = {name: value for name, value in values.items() if value is not None}
        try:
            return Policy.model_validate({**self.model_dump(), **known})
        except ValidationError as error:
            told = ", ".join(f"{name} {value}" for name, value in known.items())
            raise InputError(f"Policy not usable ({told}): {USABLE}") from error

    def __str__(self) -> str:
        return f"{self.promotion}, margin {self.margin:g}, earlier tasks {self.earlier_margin:g}"
