"""Who does the runs: processes of this machine, or workers of a Dask cluster.

Both start the same process for each run, so that a crash or a kill takes down one run alone; it
is then gone on with, a few times.
"""

import os
import subprocess
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from cellshed.cores import usable_cores
from cellshed.studies.folder import WRONG, RunPlace

Watch = Callable[[], None]

ATTEMPTS = 3
"""How often a run is started whose process was killed."""
COMMAND = (sys.executable, "-m", "cellshed.studies.worker")
_PAUSE = 0.2


class Pool(Protocol):
    """Something that does runs."""

    def run(self, folders: Sequence[Path], watch: Watch) -> dict[Path, str]:
        """Do the runs of some folders; return which failed, and why.

        Args:
            folders: with run.json in each.
            watch: called about as often as a display should change.
        """


class LocalPool:
    """So many processes at a time, which share the threads of this machine.

    Args:
        jobs: processes at a time.
        threads: of each; None: an even share.
        command: what starts a worker; the folder and --watch are added.
    """

    def __init__(
        self, jobs: int = 1, threads: int | None = None, command: Sequence[str] = COMMAND
    ) -> None:
        if jobs < 1:
            raise ValueError(f"{jobs} jobs: give at least 1")
        self.jobs = jobs
        self.threads = threads or max(1, usable_cores() // jobs)
        self.command = tuple(command)

    def run(self, folders: Sequence[Path], watch: Watch) -> dict[Path, str]:
        """See Pool."""
        waiting, failed = deque(folders), dict[Path, str]()
        active: dict[Path, subprocess.Popen[bytes]] = {}
        started: Counter[Path] = Counter()
        try:
            while waiting or active:
                while waiting and len(active) < self.jobs:
                    folder = waiting.popleft()
                    started[folder] += 1
                    active[folder] = launch(folder, self.threads, self.command)
                time.sleep(_PAUSE)
                for folder in [f for f, process in active.items() if process.poll() is not None]:
                    code = _ended(active.pop(folder))
                    if RunPlace(folder).done:
                        continue
                    if code != WRONG and started[folder] < ATTEMPTS:
                        waiting.appendleft(folder)
                    else:
                        failed[folder] = RunPlace(folder).failure()
                watch()
        finally:
            for process in active.values():
                process.kill()
                _ended(process)
        return failed


class DaskPool:
    """The workers of a Dask cluster, all of which see the same folders.

    Args:
        address: of the scheduler, such as tcp://host:8786.
        threads: of each run; None: an even share of its machine.
    """

    def __init__(self, address: str, threads: int | None = None) -> None:
        self.address = address
        self.threads = threads

    def run(self, folders: Sequence[Path], watch: Watch) -> dict[Path, str]:
        """See Pool."""
        distributed = _import_distributed()
        with distributed.Client(self.address, timeout=20) as client:
            workers = client.scheduler_info(n_workers=-1)["workers"]
            on_host = Counter[str]()
            for worker in workers.values():
                on_host[worker["host"]] += worker["nthreads"]
            slots = {address: on_host[worker["host"]] for address, worker in workers.items()}
            futures = {
                client.submit(run_process, str(f.resolve()), self.threads, slots, pure=False): f
                for f in folders
            }
            waiting = set(futures)
            while waiting:
                waiting = {future for future in waiting if not future.done()}
                watch()
                time.sleep(_PAUSE)
            return {folder: said for future, folder in futures.items() if (said := _said(future))}


def run_process(folder: str, threads: int | None, slots: dict[str, int]) -> str:
    """Do a run from a Dask worker; return why it failed, or nothing.

    Args:
        folder: with run.json in it.
        threads: of the run; None: this machine's, shared among its slots.
        slots: by the address of each worker, the runs at a time on its machine.
    """
    distributed = _import_distributed()
    place = RunPlace(folder)
    here = slots.get(distributed.get_worker().address, 1)
    share = threads or max(1, usable_cores() // here)
    for _ in range(ATTEMPTS):
        process = launch(place.path, share, COMMAND)
        code = _ended(process)
        if place.done:
            return ""
        if code == WRONG:
            break
    return place.failure()


def launch(folder: Path, threads: int, command: Sequence[str]) -> "subprocess.Popen[bytes]":
    """Start the process of a run; it ends when this process ends."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
    environment = os.environ | dict.fromkeys(names, str(threads))
    folder.mkdir(parents=True, exist_ok=True)
    with RunPlace(folder).log.open("ab") as log:
        return subprocess.Popen(
            [*command, str(folder), "--watch"],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            env=environment,
        )


def _ended(process: "subprocess.Popen[bytes]") -> int:
    """Wait for the end of a process; return its exit code."""
    code = process.wait()
    if process.stdin is not None:
        process.stdin.close()
    return code


def _said(future: Any) -> str:
    if future.status == "finished":
        return str(future.result())
    return " ".join(str(future.exception()).split()) or future.status


def _import_distributed() -> Any:
    try:
        import distributed
    except ImportError as error:
        raise ValueError("--dask needs Dask: pip install 'cellshed[dask]'") from error
    return distributed
