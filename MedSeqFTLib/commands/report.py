"""`medseqft report`"""

from __future__ import annotations

from MedSeqFTLib.commands.console import HERE, JsonOption, WorkspaceOption, open_workspace, print_json, say


def report(workspace: WorkspaceOption = HERE, as_json: JsonOption = False) -> None:
    """Write report.html into the workspace: every adaptation with its figures, and the lineage."""
    opened = open_workspace(workspace)
    from MedSeqFTLib.commands.watching import wait_for
    from MedSeqFTLib.jobs.job import REPORT_FILE
    from MedSeqFTLib.jobs.starting import start_report

    wait_for(start_report(opened), quiet=as_json)
    path = opened.folder / REPORT_FILE
    if as_json:
        print_json({"report": str(path)})
    else:
        say(str(path))
