"""The process of one run: python -m cellshed.studies.worker FOLDER [--watch].

With --watch it ends as soon as its standard input is closed, that is, when the process that
started it has ended, however it ended. So a study that was killed leaves nothing running.
"""

import os
import sys
import threading
import traceback
from pathlib import Path

from cellshed.studies.folder import WRONG, RunPlace


def main(arguments: list[str]) -> int:
    """Do what the folder's run.json says; return the exit code."""
    place = RunPlace(Path(arguments[0]))
    if "--watch" in arguments:
        threading.Thread(target=_leave_with_parent, daemon=True).start()
    try:
        with place.locked():
            if not place.done:
                _work(place)
    except (ValueError, FloatingPointError) as error:
        traceback.print_exc()
        place.fail(" ".join(str(error).split()))
        return WRONG
    return 0


def _work(place: RunPlace) -> None:
    if place.task()["kind"] == "search":
        from cellshed.studies.searching import take_seat

        take_seat(place)
    else:
        from cellshed.studies.execute import execute

        execute(place.path)


def _leave_with_parent() -> None:
    # Not through sys.stdin, whose lock the interpreter wants when it ends.
    while os.read(0, 1024):
        pass
    os._exit(3)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
