"""Run and report a study: ``python -m masa.study configs/studies/NAME.yaml`` (docs/studies.md)."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from masa.arguments import EXIT_BAD_INPUT, EXIT_FAILURE, EXIT_INTERRUPTED, positive


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; its exit code comes back: 0, 1 a run failed, 2 bad input, 130 interrupted."""
    options = _parser().parse_args(arguments)
    from masa.config import ConfigError
    from masa.studies.plan import planned_runs, read_study
    from masa.studies.record import RecordError
    from masa.studies.report import has_baseline, write_study_report
    from masa.studies.runner import StudyRunError, run_all

    name = options.study.stem
    records = options.records or Path("docs/studies") / name
    folder = options.runs or Path("runs/studies") / name
    try:
        study = read_study(options.study)
        runs = planned_runs(options.study, folder, arms=options.arms, seeds=options.seeds)
        if options.plan:
            for run in runs:
                print(run.name)
            return 0
        if not options.report:
            run_all(runs, records, processes=options.processes, report=lambda line: print(line, flush=True))
            if not has_baseline(study, records):
                print(f"No tables yet: no run of the baseline {study.baseline!r} has ended")
                return 0
        print(f"Tables: {write_study_report(name, study, records)}")
    except (ConfigError, RecordError) as error:
        print(f"masa: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except StudyRunError as error:
        print(f"masa: {error}", file=sys.stderr)
        return EXIT_FAILURE
    except KeyboardInterrupt:
        print("masa: the study was interrupted; the same command resumes it", file=sys.stderr)
        return EXIT_INTERRUPTED
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        prog="python -m masa.study",
        description="Train every arm of a study with every seed, keep a record of each run, and compare the arms.",
    )
    parser.add_argument("study", type=Path, help="YAML file of the study")
    parser.add_argument("--processes", type=positive, default=1, help="runs at the same time (default: 1)")
    parser.add_argument("--arms", nargs="+", default=[], help="only these arms")
    parser.add_argument("--seeds", nargs="+", type=int, default=[], help="only these seeds")
    parser.add_argument("--runs", type=Path, help="folder of the run directories (default: runs/studies/NAME)")
    parser.add_argument("--records", type=Path, help="folder of the records (default: docs/studies/NAME)")
    parser.add_argument(
        "--report", action="store_true", help="train nothing: make tables and figure from the existing records"
    )
    parser.add_argument("--plan", action="store_true", help="check every configuration, list the runs, and exit")
    return parser


if __name__ == "__main__":
    sys.exit(main())
