"""``python -m masa.cold_start --config FILE [section.key=value ...] --out FOLDER [--resume]``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from masa.arguments import EXIT_BAD_INPUT, EXIT_FAILURE, EXIT_INTERRUPTED, add_configuration


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code.

    0: done; 1: an engine or the verifier failed; 2: a mistake in what was asked for; 130: interrupted (Ctrl-C).
    """
    options = _parser().parse_intermixed_args(arguments)
    from masa.checkpointing.checkpoint import CheckpointError
    from masa.config import ConfigError, load_config
    from masa.problems.errors import ProblemDataError
    from masa.rewards.failures import VerifierFailedError
    from masa.rollout.engine import RolloutError
    from masa.tracking.run_directory import RunExistsError, RunFolderError

    try:
        config = load_config(options.config, [*options.overrides, "cold_start.enabled=true"])
        from masa.trainer import MASATrainer

        summary = MASATrainer(config).cold_start(options.out, resume=options.resume)
    except CheckpointError as error:
        if error.first:
            print(f"masa: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except (ConfigError, ProblemDataError, RunExistsError, RunFolderError) as error:
        print(f"masa: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except (RolloutError, VerifierFailedError) as error:
        print(f"masa: {error}", file=sys.stderr)
        return EXIT_FAILURE
    except KeyboardInterrupt:
        print("masa: interrupted. The same command with --resume resumes it", file=sys.stderr)
        return EXIT_INTERRUPTED
    if "updates" in summary:
        print(f"To train the resulting model: model.path={options.out}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        prog="python -m masa.cold_start",
        description="Teach a policy that cannot write meta-predictions their form, on its own measured solutions.",
    )
    add_configuration(parser, "YAML file with a run's configuration; see cold_start there")
    parser.add_argument("--out", required=True, help="folder for the model that comes out, and its records")
    parser.add_argument("--resume", action="store_true", help="resume the cold start in --out")
    return parser


if __name__ == "__main__":
    sys.exit(main())
