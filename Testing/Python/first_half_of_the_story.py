"""The story until a model is being adapted for the second time; then this process kills itself, as a crash would.

python first_half_of_the_story.py FOLDER
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parents[2])]

import pytest  # noqa: E402
from learning_samples import TINY  # noqa: E402
from slicer_boot import boot  # noqa: E402
from slicer_program import Window, running  # noqa: E402
from story import Story  # noqa: E402

from MedSeqFTLib.learning import settings  # noqa: E402

#: Small enough for a test, long enough to be killed in the middle.
SHORT = {**TINY, "stage_a_steps": "40", "stage_b_steps": "4"}


def main(folder: Path) -> None:
    """Ends by SIGKILL."""
    with pytest.MonkeyPatch.context() as patch:
        boot(patch)
        patch.setitem(settings.PRESETS, "quick", SHORT)
        with running(patch, settings=folder) as program:
            story = Story(Window(program.dialogs, program.installers, program.raised))
            tell(story, folder)
            os.kill(os.getpid(), signal.SIGKILL)


def tell(story: Story, folder: Path) -> None:
    """Three cases, a first model; two volumes that it segments and a person corrects; a second adaptation begins."""
    story.make_workspace(folder / "workspace")
    for number in (1, 2, 3):
        story.load_scan(number)
    story.make_task(1)
    for number, role in ((1, "train"), (2, "train"), (3, "validation")):
        story.choose(number)
        story.accept(role)
    story.start_adapting()
    print(story.wait_for_adapting(), flush=True)
    for number in (4, 5):
        volume = story.load_scan(number)
        node = story.segment(number)
        (story.edit(node, volume) > 0).tofile(folder / f"edited{number}.raw")
        story.accept("train")
    story.start_adapting()
    story.window.wait_until(lambda: "step" in story.ui.adaptProgressLabel.text, 120)
    print(story.ui.adaptProgressLabel.text, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
