"""The errors that a user may see. Everything else that is raised is a bug in MedSeqFT."""

from __future__ import annotations


class MedSeqFTError(Exception):
    """A problem that the user can understand and mend.

    The message is one line and says what is wrong, where (file, value) and what was expected. It is shown as it is,
    without a traceback; the command line then exits with `exit_code`.
    """

    exit_code = 2


class InputError(MedSeqFTError):
    """A file, value or request that cannot be used as given. Nothing was changed on disk."""


class GeometryError(InputError):
    """An image whose voxel grid is unusable, or two images whose grids differ."""


class WorkspaceError(MedSeqFTError):
    """The workspace is missing, newer than this program, damaged or in use by another process."""


class StorageError(MedSeqFTError):
    """A write failed (disk full, no permission). What was there before is untouched."""


class JobError(MedSeqFTError):
    """A background job failed or cannot do what is asked of it in its present state."""

    exit_code = 1
