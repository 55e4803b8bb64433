"""Runs the runs of a study: several side by side, each a process of its own, stopped and resumed at will."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from masa.config import dump_config
from masa.studies.plan import PlannedRun, changed_options
from masa.studies.record import RecordError, make_record, read_record, write_record

_POLL_SECONDS = 0.2


class StudyRunError(RuntimeError):
    """A run of the study failed; the message names it, its exit code and the last lines it wrote."""


def outstanding(runs: Sequence[PlannedRun], records: Path) -> list[PlannedRun]:
    """The runs that have no record yet.

    Raises:
        RecordError: a record was made with other options than the study has now.
    """
    missing = []
    for run in runs:
        path = records / f"{run.name}.json"
        if not path.exists():
            missing.append(run)
            continue
        found = read_record(path)
        if found.fingerprint != run.fingerprint:
            raise RecordError(
                f"{path} is of a run with other options: {changed_options(run, found.options)}; delete it to run it "
                "again, or give the changed arm another name"
            )
    return missing


def adopt_records(runs: Sequence[PlannedRun], records: Path) -> list[PlannedRun]:
    """Copy the records of runs that another study beside this one has made with the same options; these runs.

    Studies whose folders of records lie side by side share runs in this way: the baseline above all.
    """
    wanted = {run.fingerprint: run for run in runs}
    adopted = []
    for path in sorted(records.parent.glob("*/*-seed*.json")) if runs else ():
        if path.parent == records:
            continue
        found = read_record(path)
        run = wanted.pop(found.fingerprint, None)
        if run is not None:
            write_record(replace(found, study=run.study, arm=run.arm), records / f"{run.name}.json")
            adopted.append(run)
    return adopted


def run_all(
    runs: Sequence[PlannedRun], records: Path, *, processes: int, report: Callable[[str], None] = print
) -> None:
    """Train the outstanding runs, ``processes`` at a time, and write the record of each as it ends.

    A run that another study beside this one has made is not trained again: its record is copied.

    An interrupt (Ctrl-C, SIGTERM) asks the runs in progress to write a checkpoint and end; the next call goes on from
    there. When a run fails, no further one is started and those in progress are ended in the same way.

    Raises:
        StudyRunError: a run failed.
        KeyboardInterrupt: the study was interrupted.
    """
    waiting = outstanding(runs, records)
    for run in adopt_records(waiting, records):
        waiting.remove(run)
        report(f"{run.name} has been run by another study")
    report(f"{len(runs) - len(waiting)} of {len(runs)} runs are done")
    started: list[tuple[PlannedRun, subprocess.Popen[bytes]]] = []
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        while waiting or started:
            while waiting and len(started) < processes:
                run = waiting.pop(0)
                report(f"{run.name} starts")
                started.append((run, _start(run)))
            time.sleep(_POLL_SECONDS)
            for run, process in [one for one in started if one[1].poll() is not None]:
                started.remove((run, process))
                _finish(run, process.returncode, records)
                report(f"{run.name} is done")
    finally:
        for _, process in started:
            process.send_signal(signal.SIGTERM)
        for _, process in started:
            process.wait()
        signal.signal(signal.SIGTERM, before)


def _start(run: PlannedRun) -> subprocess.Popen[bytes]:
    folder = Path(run.config.run.dir)
    folder.parent.mkdir(parents=True, exist_ok=True)
    config = folder.with_name(f"{run.name}.yaml")
    config.write_text(dump_config(run.config), encoding="utf-8")
    command = [sys.executable, "-m", "masa.train", "--resume", "--config", str(config)]
    with _log(run).open("ab") as log:
        # A session of its own: a Ctrl-C at the terminal reaches the study alone, which then ends its runs in order.
        return subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True
        )


def _finish(run: PlannedRun, code: int, records: Path) -> None:
    folder = Path(run.config.run.dir)
    if code == 0 and (folder / "summary.json").exists():
        write_record(make_record(run, folder), records / f"{run.name}.json")
        return
    last = _log(run).read_text(encoding="utf-8", errors="replace").strip().splitlines()[-15:]
    raise StudyRunError(f"{run.name} ended with exit code {code} before its last step:\n" + "\n".join(last))


def _log(run: PlannedRun) -> Path:
    return Path(run.config.run.dir).with_name(f"{run.name}.log")


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt
