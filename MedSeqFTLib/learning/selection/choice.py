"""The choice of a job's buffer: made once, and read back after a kill."""

from __future__ import annotations

from MedSeqFTLib.learning.foundation import conditions_of, reader_for
from MedSeqFTLib.learning.selection.buffer import select_buffer
from MedSeqFTLib.learning.stages import Context
from MedSeqFTLib.workspace.files import read_json, write_json
from MedSeqFTLib.workspace.schema import Document, Selection


class SelectionFile(Document):
    """selection.json in the job's folder: what was chosen, and what the choice depends on."""

    identity: str
    selection: Selection


def with_chosen_buffer(context: Context) -> tuple[Context, Selection]:
    """The stage with its task's buffer, and how that was chosen. Raises as `choose_buffer`."""
    selection = choose_buffer(context)
    return context.with_buffer(tuple(score.case for score in selection.scores if score.kept)), selection


def choose_buffer(context: Context) -> Selection:
    """The buffer of the context's task, as its settings say.

    Raises:
        InputError: the foundation model has no pretext head and no other selection was asked for.
        StorageError: the disk is full.
    """
    path = context.reporter.folder / "selection.json"
    identity = context.identity("selection", context.foundation.files)
    if path.exists():
        stored = read_json(path, SelectionFile)
        if stored.identity == identity:
            return stored.selection
    cases = {case.id: prepared for case, prepared in zip(context.train, context.prepared, strict=True)}
    reader, conditions = reader_for(context), conditions_of(context)
    selection = select_buffer(cases, reader, context.settings, context.seed, context.reporter, identity, conditions)
    write_json(path, SelectionFile(identity=identity, selection=selection))
    return selection
