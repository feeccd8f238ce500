"""What is on disk, as pydantic models: the one place that knows the fields of every JSON file of a workspace.

Every document carries `schema_version`. A document written by a newer program is refused, never half-read.
Lengths are in mm; arrays and grids are ordered z, y, x (numpy order of SimpleITK) only where a field says so.
"""

from __future__ import annotations

from datetime import datetime, timezone
from enum import Enum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from typing_extensions import Self

from MedSeqFTLib.errors import WorkspaceError
from MedSeqFTLib.workspace.networks import Description, NetworkSpec, Patch, PretextSpec
from MedSeqFTLib.workspace.policy import Policy

SCHEMA_VERSION = 1

#: Names of tasks, cases, versions and jobs become folder names on Windows, macOS and Linux alike.
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}[A-Za-z0-9_-]$|^[A-Za-z0-9]$"
Name = Annotated[str, Field(pattern=NAME_PATTERN)]
Vector3 = tuple[float, float, float]
Share = Annotated[float, Field(ge=0, le=1)]
Seconds = Annotated[float, Field(ge=0)]


def now() -> datetime:
    """The present moment in UTC, to the second."""
    return datetime.now(timezone.utc).replace(microsecond=0)


class Document(BaseModel):
    """A JSON file of the workspace. Unknown fields are refused, so that nothing is lost by rewriting a document.

    Numbers are finite: JSON knows no NaN, and a NaN that came back as null would read as "not measured".
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    schema_version: int = SCHEMA_VERSION


class Part(Description):
    """A piece of a document."""


class Role(str, Enum):
    """What a case is for. A role never changes: a held-out case stays held out."""

    TRAIN = "train"
    VALIDATION = "validation"


class Modality(str, Enum):
    CT = "CT"
    MR = "MR"


class Code(Part):
    """A terminology code, for instance SNOMED CT `SCT, 279336000, "Grey matter"`."""

    scheme: str
    value: str
    meaning: str


class Label(Part):
    """One structure of a task. `value` is pinned: it never depends on the order of segments in a file."""

    value: Annotated[int, Field(ge=1, le=255)]
    name: Annotated[str, Field(min_length=1, max_length=120)]
    color: tuple[Share, Share, Share]  # red, green, blue in 0..1
    code: Code | None = None

    @model_validator(mode="after")
    def _name_is_printable(self) -> Label:
        if not self.name.isprintable() or self.name != self.name.strip():
            raise ValueError(f"a label name is one line of printable text without blanks around it, got {self.name!r}")
        return self


class _Range(Part):
    low: float
    high: float

    @model_validator(mode="after")
    def _low_lies_below_high(self) -> Self:
        if not self.low < self.high:
            raise ValueError(f"the lower bound must lie below the upper one, got {self.low:g} and {self.high:g}")
        return self


class Window(_Range):
    """CT intensities are clipped to low..high HU and scaled to -1..1."""

    kind: Literal["window"] = "window"
    low: float = -1000.0
    high: float = 1000.0


class Percentile(_Range):
    """MR intensities are clipped to these percentiles of the volume and scaled to -1..1."""

    kind: Literal["percentile"] = "percentile"
    low: Annotated[float, Field(ge=0, le=100)] = 0.5
    high: Annotated[float, Field(ge=0, le=100)] = 99.5


class ZScore(_Range):
    """Intensities are clipped to mean + low..high standard deviations of the volume and scaled to -1..1."""

    kind: Literal["z-score"] = "z-score"
    low: float = -5.0
    high: float = 10.0


Intensity = Annotated[Window | Percentile | ZScore, Field(discriminator="kind")]


class ExpectedInput(Part):
    """What images a foundation model was trained on; a task that starts from it is prepared in the same way."""

    intensity: dict[Modality, Intensity]  # a modality that is not here was not trained on
    spacing: Vector3 | None = None  # x, y, z in mm
    patch: Patch  # voxels, z, y, x


class Origin(Part):
    """Where the weights of an imported foundation model come from."""

    model: Name  # of the catalogue
    title: str
    licence: str
    file: str  # name of the file that was imported, without its path
    size: int  # bytes
    sha256: str
    matched: int  # tensors taken from the file
    fresh: tuple[str, ...] = ()  # tensors of the network that the file lacks, which start at random
    left_out: tuple[str, ...] = ()  # tensors of the file that were not taken


class Task(Document):
    """A label set with its modality and the rule that turns voxel values into network input."""

    name: Name
    description: str = ""
    modality: Modality
    labels: Annotated[tuple[Label, ...], Field(min_length=1)]
    intensity: Intensity
    created: datetime = Field(default_factory=now)

    @model_validator(mode="after")
    def _labels_are_distinct(self) -> Task:
        for what, values in (
            ("values", [label.value for label in self.labels]),
            ("names", [label.name.casefold() for label in self.labels]),
        ):
            if len(set(values)) != len(values):
                raise ValueError(f"label {what} must differ, got {values}")
        return self


class Correction(Part):
    """What a person changed in a proposal: see MedSeqFTLib.imaging.correction. None where a figure is not defined."""

    confidence: Share | None  # of the model in its proposal; None: not known
    dice: dict[str, float | None]  # of proposal and accepted segmentation, by label name
    surface: dict[str, float | None]  # mean distance of their surfaces, mm
    changed: Share  # of the voxels that either of them labels, those that differ


class Revision(Part):
    """An earlier segmentation of a case. Its file stays beside the newer ones: see MedSeqFTLib.workspace.cases."""

    segmentation_sha256: str
    label_voxels: dict[str, int]
    overlap_voxels: int = 0
    accepted: datetime
    accepted_by: str = ""
    proposal_dice: float | None = None
    correction: Correction | None = None
    seconds_spent: Seconds | None = None


class NearDuplicate(Part):
    """A stored case that shows the same scan as another one: see MedSeqFTLib.imaging.near_duplicates."""

    task: Name
    case: Name
    role: Role
    likeness: Share


class Case(Document):
    """An accepted case: image.nrrd and segmentation.seg.nrrd lie beside this case.json.

    A segmentation that was corrected later lies beside them as segmentation-2.seg.nrrd, then -3, and so on; the fields
    here speak of the newest.
    """

    id: Name
    task: Name
    role: Role
    source_image: str  # name of the file or folder it was read from, without its path; empty: not kept
    source_segmentation: str
    image_sha256: str  # of image.nrrd, as stored
    segmentation_sha256: str  # of segmentation.seg.nrrd, as stored
    pixel_sha256: str  # of the voxel values alone: finds the same scan under another name
    size: tuple[int, int, int]  # x, y, z voxels
    spacing: Vector3  # x, y, z in mm
    label_voxels: dict[str, int]  # voxels per label name; labels that are not here are unknown in this case, not absent
    overlap_voxels: int = 0  # voxels that more than one segment claimed when the case was accepted
    accepted: datetime = Field(default_factory=now)
    accepted_by: str = ""
    proposed_by: str | None = None  # the model version whose proposal was corrected
    proposal_dice: float | None = None  # mean Dice between proposal and accepted segmentation
    correction: Correction | None = None  # of the proposal; None: there was none, or an older program stored the case
    seconds_spent: Seconds | None = None  # on correcting it, pauses apart; None: not counted
    descriptor: tuple[float, ...] | None = None  # see MedSeqFTLib.imaging.descriptor
    near_duplicate: NearDuplicate | None = None  # that was known when the case was accepted
    not_compared: int = 0  # cases of older programs in which nobody had looked for near-duplicates by then
    revisions: tuple[Revision, ...] = ()  # earlier segmentations, the oldest first


class TaskPlan(Part):
    """How one task is prepared for the network; pinned in every version, so that a prediction reproduces."""

    labels: tuple[Label, ...]
    intensity: Intensity
    spacing: Vector3  # x, y, z in mm of the grid that the network sees
    patch: tuple[int, int, int]  # z, y, x voxels


class CaseScore(Part):
    """A held-out case measured with one reading of the model, by label name.

    None where a figure is not defined: all three of an empty reference, and the distance of an empty prediction.
    Labels that the case's reference does not speak of are not here.
    """

    case: Name
    dice: dict[str, float | None]
    hd95: dict[str, float | None] = Field(default_factory=dict)  # 95 % Hausdorff distance of the surfaces, mm
    nsd: dict[str, float | None] = Field(default_factory=dict)  # normalised surface Dice
    reference: str | None = None  # segmentation_sha256 of the case; None: of its first segmentation


#: Whether a task is segmented by its own model, or by the one model of all tasks (docs/method.md).
Reading = Literal["per-task", "single-model"]


class TaskScores(Part):
    """Held-out Dice of one task."""

    task: Name
    reading: Reading
    version: Name  # the version that was measured
    cases: tuple[CaseScore, ...]
    mean_dice: float | None
    tolerance: float | None = None  # mm, of nsd; None: surfaces were not measured


#: Why a case is in a buffer or not. "tie zone": the passes did not suffice to tell it from those on the other side.
SelectionReason = Literal[
    "",  # written by an older program
    "decided in",
    "decided out",
    "tie zone, kept by mean",
    "tie zone, left by mean",
    "cluster centre",
    "cluster member",
    "random",
    "all",
    "none",
]


class CrossValidation(Part):
    """A version's recipe, trained again without some of the new training cases and measured on these."""

    folds: int
    recipe: TaskScores  # each case by the model that was trained without it; named like the version
    current: TaskScores | None = None  # of the version that was current then, which has seen none of them


class SelectionScore(Part):
    """MDS: the mean pretext loss of M0 on one training case."""

    case: Name
    loss: float | None  # None: the buffer was not chosen by scores
    standard_error: float | None
    interval: tuple[float, float] | None = None  # 95 % confidence interval of the loss
    passes: int  # that the mean is taken over; of k-means: crops
    kept: bool
    reason: SelectionReason = ""

    @property
    def in_tie_zone(self) -> bool:
        """Was the case too close to the border between kept and left to be decided surely?"""
        return self.reason.startswith("tie zone")


class Estimator(Part):
    """How mean losses were estimated: a fixed number of passes, or racing with rounds of growing length."""

    kind: Literal["racing", "fixed"]
    z: float  # standard errors of a paired difference beyond which a case is decided
    start: int  # passes of the first round
    growth: float  # of the passes from round to round


class SelectionConditions(Part):
    """What a selection depends on beside its own settings."""

    foundation: Name  # M0
    foundation_files: dict[str, str]  # its files: name -> SHA-256
    intensity: Intensity
    spacing: Vector3  # x, y, z in mm of the grid that crops were taken from
    precision: str  # of the forward passes
    sampler: Literal["uniform"] = "uniform"  # of crop positions


class Selection(Part):
    """A buffer, and every setting that the scores depend on."""

    method: str
    size: int
    passes: int  # over a case, at most; of k-means: crops
    pretext: PretextSpec | None  # None: the buffer was not chosen by scores
    patch: tuple[int, int, int] | None  # z, y, x voxels of the crops that were scored
    seed: int
    scores: tuple[SelectionScore, ...]
    estimator: Estimator | None = None  # None: not chosen by scores, or by an older program, with fixed passes
    conditions: SelectionConditions | None = None  # None: written by an older program


class ModelVersion(Document):
    """An immutable model version: `version.json` beside its safetensors files.

    `backbone.safetensors` is M_t, handed on to the next stage; `task-backbone.safetensors` with `head-TASK.safetensors`
    is F_t, which segments the task; `adapter/` holds the stage-B change of the parent in peft's file format.
    """

    id: Name
    kind: Literal["foundation", "adapted"]
    parent: Name | None
    task: Name | None
    job: Name | None
    created: datetime = Field(default_factory=now)
    network: NetworkSpec
    pretext: PretextSpec | None = None  # of a foundation model that has a pretext head
    lora: str = ".*"  # the backbone's linear and convolution layers that stage B may change, a regular expression
    input: ExpectedInput | None = None  # None: any
    origin: Origin | None = None  # None: trained here
    plans: dict[str, TaskPlan] = {}  # of every task that has a head here
    train_cases: tuple[Name, ...] = ()
    learned: dict[Name, str] = {}  # training case -> segmentation_sha256; a case that is not here: its first one
    validation_cases: tuple[Name, ...] = ()
    buffers: dict[str, tuple[Name, ...]] = {}  # task -> cases kept by MDS, over the whole lineage
    selection: Selection | None = None
    scores: tuple[TaskScores, ...] = ()
    cross_validation: CrossValidation | None = None
    settings: dict[str, str | int | float | bool | None] = {}
    software: dict[str, str] = {}
    files: dict[str, str]  # file name (with /) -> SHA-256
    note: str = ""

    def plan(self, task: str) -> TaskPlan:
        """How a task is prepared for this version. Raises WorkspaceError if it has no head for it."""
        if task not in self.plans:
            raise WorkspaceError(f"Version {self.id} has no plan of task {task}, which it should have; it is damaged.")
        return self.plans[task]

    def measured(self, task: str | None, version: str, reading: str = "per-task") -> TaskScores | None:
        """What is recorded here of a version on a task's held-out cases; None if it was not measured."""
        wanted = (task, reading, version)
        return next((s for s in self.scores if (s.task, s.reading, s.version) == wanted), None)


class PointerMove(Part):
    """One promotion or rollback."""

    kind: Literal["promote", "rollback"]
    when: datetime = Field(default_factory=now)
    who: str
    task: Name
    before: Name | None
    after: Name | None
    chain_before: Name | None
    chain_after: Name | None
    reason: str
    verdict: str = ""  # of the gate, beside a person's reason


class Pointers(Document):
    """Which version is current: per task for segmentation, and `chain` for the next adaptation (M_{t-1})."""

    chain: Name | None = None
    tasks: dict[str, Name] = {}
    history: tuple[PointerMove, ...] = ()


class WorkspaceInfo(Document):
    """workspace.json, which marks the folder as a workspace."""

    created: datetime = Field(default_factory=now)
    software: str
    anonymous: bool = False  # see MedSeqFTLib.workspace.anonymity
    policy: Policy = Policy()  # an older program wrote none


class Segmentation(Document):
    """A segmentation that a model version made of a volume: segmentation.seg.nrrd beside this segmentation.json."""

    name: Name  # of the volume
    task: Name
    version: Name
    reading: Reading
    source_image: str  # name of the file or folder that was segmented, without its path; empty: not kept
    pixel_sha256: str  # of the volume
    segmentation_sha256: str
    size: tuple[int, int, int]  # x, y, z voxels
    spacing: Vector3  # x, y, z in mm
    label_voxels: dict[str, int]
    confidence: Share | None = None  # see MedSeqFTLib.imaging.confidence; None: nothing segmented, or not measured
    descriptor: tuple[float, ...] | None = None  # see MedSeqFTLib.imaging.descriptor
    created: datetime = Field(default_factory=now)
