"""A cold start at work: before the first step of a run, or alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from masa.cold_start.folder import cold_start_folder
from masa.cold_start.phase import ColdStart
from masa.cold_start.records import ColdStartRecords
from masa.problems.mixture import Sampler
from masa.rewards.failures import require_working_verifier
from masa.rewards.grading import GradedGroup
from masa.run_parts import RunParts
from masa.session import Session
from masa.tracking.metrics import StepMetrics
from masa.tracking.run_directory import RunDirectory
from masa.training_step import measure_held_out


def cold_start_within(
    parts: RunParts,
    session: Session,
    sampler: Sampler,
    directory: RunDirectory,
    say: Callable[[str], None],
    *,
    resume: bool,
) -> bool:
    """The cold start of a run, where there is one; False where SIGTERM ended it."""
    if not parts.config.cold_start.enabled:
        return True
    writes = session.accelerator.is_main_process
    records = ColdStartRecords(cold_start_folder(directory), parts.config, say, writes=writes)
    records.open(resume=resume)
    # Step 0 of the run evaluates what came out of it.
    return _phase(parts, session, records, say).run(sampler, resume=resume, evaluate_after=False)


def cold_start_alone(parts: RunParts, out: Path, *, resume: bool) -> dict[str, Any]:
    """As `MASATrainer.cold_start`."""
    state = parts.join()

    def say(line: str) -> None:
        if state.is_main_process:
            parts.console.print(line, highlight=False, markup=False, soft_wrap=True)

    for note in parts.prepared.notes:
        say(note)
    records = ColdStartRecords(out, parts.config, say, writes=state.is_main_process)
    with records.held(resume=resume), parts.opened_session(first=state.is_main_process) as session:
        sampler = parts.sampler()
        session.sample_from(sampler)
        for line in session.check_at_start():
            say(line)
        if not _phase(parts, session, records, say).run(sampler, resume=resume, evaluate_after=True):
            say("Stopped by SIGTERM; continue with --resume")
            return {"stopped_by": "SIGTERM"}
    return records.summary()


def _phase(parts: RunParts, session: Session, records: ColdStartRecords, say: Callable[[str], None]) -> ColdStart:
    def evaluate(when: str, session: Session) -> tuple[StepMetrics, list[GradedGroup]]:
        metrics, groups = measure_held_out(parts.config, parts.prepared, session)
        require_working_verifier(groups, when)
        return metrics, groups

    return ColdStart(parts.config, parts.prepared, session, records, evaluate, say)
