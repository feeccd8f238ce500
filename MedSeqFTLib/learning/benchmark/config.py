"""What a benchmark is to do, as a TOML file. Torch-free."""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from MedSeqFTLib.errors import InputError
from MedSeqFTLib.learning.settings import Settings, Share, Steps, StrategySettings
from MedSeqFTLib.learning.strategies.names import STRATEGIES
from MedSeqFTLib.models.catalogue import RESOURCES
from MedSeqFTLib.workspace.files import explain
from MedSeqFTLib.workspace.schema import Name

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

BASELINE = "parallel"
STARTER = "starter"
_OF_ALL = ("device", "threads", "precision")  # settled once, for all that is computed
Seed = Annotated[int, Field(ge=0, le=2**31 - 1)]


class _Table(BaseModel):
    """A table of the file; a key that it does not know is named, with the one that may have been meant."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, table: Any) -> Any:
        if isinstance(table, dict):
            _refuse_unknown(table, list(cls.model_fields))
        return table


def _refuse_unknown(table: dict[str, Any], known: Sequence[str]) -> None:
    for key in table:
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            guess = f"; did you mean '{near[0]}'?" if near else ""
            raise ValueError(f"unknown key '{key}'{guess} Allowed are: {', '.join(known)}")


def _refuse_unusable(settings: dict[str, Any]) -> None:
    """Of a task or a strategy."""
    _refuse_unknown(settings, list(StrategySettings.model_fields))
    for name in _OF_ALL:
        if name in settings:
            raise ValueError(f"'{name}' holds for the whole benchmark: set it under [settings]")


class Drawn(_Table):
    """Semi-synthetic scans that are made here (MedSeqFTLib.imaging.cohort): for trying out, never evidence."""

    kind: Literal["t1-tissue", "t2-ventricles"]
    cases: Annotated[int, Field(ge=2, le=1000)]
    seed: Seed = 0


class BenchmarkTask(_Table):
    """One data set in the Decathlon's or nnU-Net's layout. `train`: cases that each seed draws; None: all."""

    name: Name
    folder: str | None = None
    drawn: Drawn | None = None
    held_out: Annotated[int, Field(ge=1)]
    train: Annotated[int, Field(ge=1)] | None = None
    steps: Steps  # of full fine-tuning; every strategy gets as many
    split_seed: Seed = 0
    settings: dict[str, Any] = Field(default_factory=dict)  # of every strategy on this task
    unseen: bool = False  # not learned in the sequence: the last model is fine-tuned on it
    source: str = ""  # where a user gets the data

    @model_validator(mode="after")
    def _one_origin(self) -> BenchmarkTask:
        if (self.folder is None) == (self.drawn is None):
            raise ValueError(f"task '{self.name}' needs either a folder or drawn scans")
        _refuse_unusable(self.settings)
        return self


class BenchmarkStrategy(_Table):
    """A strategy with some settings changed. `seeds`, `orders` (numbers from 0): None takes all of the benchmark."""

    kind: str
    label: str | None = None
    settings: dict[str, Any] = Field(default_factory=dict)
    budget: Annotated[float, Field(gt=0, le=100)] = 1.0  # times the tasks' steps
    seeds: tuple[Seed, ...] | None = None
    orders: tuple[int, ...] | None = None
    transfer: tuple[int, ...] = ()  # of which orders the last model is fine-tuned on unseen tasks

    @model_validator(mode="after")
    def _known(self) -> BenchmarkStrategy:
        if self.kind not in STRATEGIES:
            raise ValueError(f"kind '{self.kind}' is unknown; allowed are: {', '.join(STRATEGIES)}")
        _refuse_unusable(self.settings)
        return self

    @property
    def name(self) -> str:
        """What it is called in tables."""
        return self.label or STRATEGIES[self.kind].title

    @property
    def is_curve(self) -> bool:
        """The baseline with another number of steps only shows whether it has converged."""
        return self.kind == BASELINE and self.budget != 1


class BenchmarkConfig(_Table):
    """A whole benchmark."""

    title: str
    tasks: Annotated[tuple[BenchmarkTask, ...], Field(min_length=1)]
    strategies: Annotated[tuple[BenchmarkStrategy, ...], Field(min_length=1)]
    orders: tuple[tuple[str, ...], ...] = ()  # of task names; by default the tasks as they stand
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] = (0,)
    foundation: str = STARTER  # or a checkpoint file
    leave_one_out: bool = False  # each task is also treated as unseen, in turn
    measure: Literal["held-out", "tuning"] = "held-out"  # tuning: on cases split from the training side
    tuning_share: Share = 0.34  # of the training side
    stage_b_share: Annotated[float, Field(gt=0, le=10)] = 0.25  # steps of stage B, as a share of the task's steps
    settings: dict[str, Any] = Field(default_factory=dict)  # of every strategy

    @model_validator(mode="after")
    def _fits_together(self) -> BenchmarkConfig:
        _refuse_unknown(self.settings, list(StrategySettings.model_fields))
        _refuse_twice("task", [task.name.casefold() for task in self.tasks])
        _refuse_twice("strategy", [strategy.name for strategy in self.strategies])
        sequence = {task.name for task in self.tasks if not task.unseen}
        if not sequence:
            raise ValueError("every task is unseen; at least one must be learned")
        for order in self.orders:
            if set(order) != sequence or len(order) != len(sequence):
                raise ValueError(f"each of 'orders' must name every task once ({', '.join(sorted(sequence))}): {order}")
        for strategy in self.strategies:
            for number in (*(strategy.orders or ()), *strategy.transfer):
                if not 0 <= number < len(self.sequences):
                    last = len(self.sequences) - 1
                    raise ValueError(f"{strategy.name} names order {number}; orders are numbered from 0 to {last}")
        return self

    @property
    def sequences(self) -> tuple[tuple[str, ...], ...]:
        """The task orders."""
        return self.orders or (tuple(task.name for task in self.tasks if not task.unseen),)

    def computing(self, **given: str | int | None) -> Settings:
        """Device, threads and precision of everything; what is `given` and not None comes first. Raises InputError."""
        own = {name: self.settings[name] for name in _OF_ALL if name in self.settings}
        try:
            return Settings.model_validate({**own, **{name: v for name, v in given.items() if v is not None}})
        except ValidationError as error:
            raise InputError(f"The benchmark cannot be computed so: {explain(error)}.") from error

    @property
    def baseline(self) -> BenchmarkStrategy | None:
        """What the others are compared with."""
        return next((s for s in self.strategies if s.kind == BASELINE and not s.is_curve), None)

    def task(self, name: str) -> BenchmarkTask:
        """The task of this name, which exists."""
        return next(task for task in self.tasks if task.name == name)


def _refuse_twice(what: str, names: Sequence[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{what} '{twice[0]}' stands there twice")


def shipped_config(name: str) -> Path | None:
    """The benchmark of this name that ships with MedSeqFT; None: there is none."""
    path = RESOURCES / "Benchmarks" / f"{name}.toml"
    return path if re.fullmatch("[a-z-]+", name) and path.is_file() else None


def read_config(path: Path) -> BenchmarkConfig:
    """The benchmark that a file describes.

    Raises:
        InputError: the file cannot be read, or a key or value in it cannot be used; the message names it.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"The benchmark {path} cannot be read: {error.strerror or error}.") from error
    except ValueError as error:  # not UTF-8, or not TOML
        raise InputError(f"The benchmark {path} is not a TOML file: {error}.") from error
    try:
        config = BenchmarkConfig.model_validate(table)
        for strategy in config.strategies:
            for task in config.tasks:
                settings_for(config, strategy, task)
    except ValidationError as error:
        raise InputError(f"The benchmark {path} cannot be used: {explain(error)}.") from error
    return config


def settings_for(config: BenchmarkConfig, strategy: BenchmarkStrategy, task: BenchmarkTask) -> StrategySettings:
    """The settings of one stage. Raises pydantic.ValidationError."""
    steps = max(1, round(strategy.budget * task.steps))
    return StrategySettings.model_validate(
        {
            "stage_a_steps": steps,
            "stage_b_steps": max(1, round(config.stage_b_share * steps)),
            **STRATEGIES[strategy.kind].settings,
            **config.settings,
            **task.settings,
            **strategy.settings,
        }
    )
