"""The choice of a job's buffer: made once, and read back after a kill."""

from __future__ import annotations

from dataclasses import replace

from MedSeqFTLib.learning.foundation import conditions_of, reader_for
from MedSeqFTLib.learning.memory import once_more_with_less
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
    """The buffer of the context's task, as its settings say; when memory runs out, once more with one crop at a time.

    Raises:
        InputError: the foundation model has no pretext head and no other selection was asked for.
        JobError: memory does not suffice for one crop either.
        StorageError: the disk is full.
    """
    path = context.reporter.folder / "selection.json"
    identity = context.identity("selection", context.foundation.files)
    if path.exists():
        stored = read_json(path, SelectionFile)
        if stored.identity == identity:
            return stored.selection
    cases = {case.id: prepared for case, prepared in zip(context.train, context.prepared, strict=True)}

    def chosen(one_by_one: bool = False) -> Selection:
        reader, conditions = reader_for(context), conditions_of(context)
        if reader is not None:
            reader = replace(reader, one_by_one=one_by_one)
        return select_buffer(cases, reader, context.settings, context.seed, context.reporter, identity, conditions)

    selection = once_more_with_less(chosen, lambda: (lambda: chosen(one_by_one=True), "one crop at a time"), context)
    write_json(path, SelectionFile(identity=identity, selection=selection))
    return selection
