"""``python -m masa.train --config FILE [section.key=value ...] [--dry-run] [--resume]``."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from masa.arguments import EXIT_BAD_INPUT, EXIT_FAILURE, EXIT_INTERRUPTED, add_configuration

if TYPE_CHECKING:
    from masa.config import Config
    from masa.trainer import MASATrainer


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code.

    0: done; 1: engines, the verifier or the disk failed; 2: a mistake in what was asked for; 130: interrupted (Ctrl-C).
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = _parser().parse_intermixed_args(given)
    planned = {name: getattr(options, name) for name in ("launch", "gpu", "utilization")}
    planned = {name: value for name, value in planned.items() if value is not None}
    if planned and not options.dry_run:
        print(f"masa: --{next(iter(planned))}: found without --dry-run, allowed: with it", file=sys.stderr)
        return EXIT_BAD_INPUT
    from masa.checkpointing.checkpoint import CheckpointError
    from masa.config import ConfigError, load_config
    from masa.distributed.peers import PeerLostError
    from masa.distributed.processes import leave_processes
    from masa.files.disk import is_disk_full
    from masa.problems.errors import ProblemDataError
    from masa.rewards.failures import VerifierFailedError
    from masa.rollout.engine import RolloutError
    from masa.tracking.run_directory import RunExistsError, RunFolderError

    config: Config | None = None
    trainer: MASATrainer | None = None
    try:
        named = [] if options.name is None else [f"run.name={json.dumps(options.name)}"]
        config = load_config(options.config, [*options.overrides, *named])
        if options.dry_run:
            from masa.dry_run import dry_run

            dry_run(config, Console(), **planned)
            return 0
        from masa.trainer import MASATrainer

        trainer = MASATrainer(config)
        trainer.train(resume=options.resume)
        leave_processes()
    except CheckpointError as error:
        if error.first:
            print(f"masa: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except (ConfigError, ProblemDataError, RunExistsError, RunFolderError) as error:
        print(f"masa: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except PeerLostError:
        return EXIT_FAILURE  # the watch has said it, once for all processes
    except (RolloutError, VerifierFailedError) as error:
        print(f"masa: {error}", file=sys.stderr)
        return EXIT_FAILURE
    except Exception as error:
        if trainer is None or not trainer.has_begun or not is_disk_full(error):
            raise
        print(
            f"masa: the run in {trainer.directory} cannot write: {error}. Free some space and continue with --resume, "
            "or start again if there is no checkpoint yet",
            file=sys.stderr,
        )
        return EXIT_FAILURE
    except KeyboardInterrupt:
        if os.environ.get("RANK", "0") == "0":  # one of several processes speaks for all
            print(f"masa: interrupted. {_what_is_saved(trainer, given)}", file=sys.stderr)
        return EXIT_INTERRUPTED
    return 0


def _what_is_saved(trainer: MASATrainer | None, given: Sequence[str]) -> str:
    """What an interrupted run has on disk, and the command with which it goes on."""
    from masa.checkpointing.checkpoint import list_checkpoints
    from masa.cold_start.folder import cold_start_folder
    from masa.tracking.run_directory import RunDirectory

    directory = RunDirectory(trainer.directory) if trainer is not None and trainer.has_begun else None
    if trainer is None or directory is None or not directory.metrics.exists():
        if directory is None or not cold_start_folder(directory).exists():
            return "Nothing has been trained yet; the same command starts from the beginning"
        return "Nothing has been trained yet; the same command with --resume resumes the cold start"
    checkpoints = list_checkpoints(directory.checkpoints)
    saved = (
        f"The newest checkpoint is {max(checkpoints)[1]}; later steps will be repeated"
        if checkpoints
        else "There is no checkpoint yet; training will begin again with step 1"
    )
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        return f"{saved}. To resume, give the same launch command with --resume"
    options = [one for one in given if one != "--resume"]
    if str(directory.path) != trainer.config.run.dir:
        options.append(f"run.dir={directory.path}")
    # As the user began it: the command `masa` is there where the package is installed.
    program = "masa train" if Path(sys.argv[0]).name == "masa" else "python -m masa.train"
    return f"{saved}. To resume: {program} {shlex.join([*options, '--resume'])}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        prog="python -m masa.train",
        description="Train a policy with MASA, or with plain GRPO (algorithm.meta=false).",
    )
    add_configuration(parser, "YAML file with the run's configuration")
    parser.add_argument("--name", help="what reports call this run (run.name)")
    parser.add_argument("--resume", action="store_true", help="resume the run in run.dir from its newest checkpoint")
    parser.add_argument(
        "--dry-run", action="store_true", help="check everything, show prompts and plan, load no model, train nothing"
    )
    parser.add_argument(
        "--launch", metavar="OPTIONS", help="with --dry-run: plan for accelerate launch OPTIONS, or for its file"
    )
    parser.add_argument(
        "--gpu",
        help="with --dry-run: plan for a GPU that is not here: a name such as h100, its GB, or its GB,TFLOP/s,GB/s",
    )
    parser.add_argument(
        "--utilization",
        metavar="OPERATIONS,MEMORY",
        help="with --dry-run: shares that are reached of a device's operations and of its memory's bytes a second "
        "(default: 0.4,0.6)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
