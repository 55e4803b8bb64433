"""``masa push RUN_DIR --repo OWNER/NAME``: a checkpoint of a run, with its model card, on the Hugging Face hub."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from masa.arguments import EXIT_BAD_INPUT, EXIT_FAILURE, EXIT_INTERRUPTED


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code.

    0: uploaded, or with ``--card`` shown; 1: the hub did not take it; 2: a mistake in what was asked for; 130: Ctrl-C.
    """
    options = _parser().parse_args(arguments)
    from masa.config.hub import require_repository
    from masa.publishing.publish import CARD, prepare_publication
    from masa.publishing.upload import HubPushError, missing_for_upload
    from masa.run import NoRunError, load_run
    from masa.tracking.run_directory import RunDirectory

    publication = None
    try:
        run = load_run(options.run)
        repo = require_repository(options.repo or run.config.hub.repo or f"{run.path.resolve().name}")
        if not (options.card or options.repo or run.config.hub.repo):
            raise ValueError("--repo: owner/name is needed, since hub.repo of the run's configuration is null")
        publication = prepare_publication(RunDirectory(options.run), repo, options.step)
        if options.card:
            print((publication.folder / CARD).read_text(encoding="utf-8"), end="")
            return 0
        if missing := missing_for_upload():
            raise HubPushError(f"{repo} was not uploaded: {missing}")
        print(publication.upload(repo, private=not options.public))
    except HubPushError as error:
        print(f"masa: {error}", file=sys.stderr)
        return EXIT_FAILURE
    except (NoRunError, ValueError) as error:
        print(f"masa: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        print("masa: interrupted. The same command uploads what is missing", file=sys.stderr)
        return EXIT_INTERRUPTED
    finally:
        if publication is not None:
            publication.discard()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        prog="python -m masa.push",
        description="Upload the policy of a run to the Hugging Face hub, with a model card made from the run. The "
        "repository is made where there is none, and is private.",
    )
    parser.add_argument("run", metavar="RUN_DIR", type=Path, help="a run directory")
    parser.add_argument("--repo", metavar="OWNER/NAME", help="repository (default: hub.repo of the run)")
    parser.add_argument("--step", type=int, help="this step's checkpoint (default: the newest)")
    parser.add_argument("--public", action="store_true", help="make a public repository, or upload to one")
    parser.add_argument("--card", action="store_true", help="show the model card, and upload nothing")
    return parser


if __name__ == "__main__":
    sys.exit(main())
