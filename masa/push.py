"""``masa push RUN_DIR --repo OWNER/NAME``: a checkpoint of a run, with its model card, on the Hugging Face hub."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from masa.arguments import exit_code


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code.

    0: uploaded, or with ``--card`` shown; 1: the hub did not take it; 2: a mistake in what was asked for; 130: Ctrl-C.
    """
    options = _parser().parse_args(arguments)
    from masa.publishing.upload import HubPushError
    from masa.run import NoRunError

    return exit_code(
        lambda: _push(options),
        failure=(HubPushError,),
        bad_input=(NoRunError, ValueError),
        interrupted=". The same command uploads what is missing",
    )


def _push(options: argparse.Namespace) -> None:
    from masa.config.hub import require_repository
    from masa.publishing.publish import CARD, prepare_publication
    from masa.publishing.upload import HubPushError, missing_for_upload
    from masa.run import load_run
    from masa.tracking.run_directory import RunDirectory

    run = load_run(options.run)
    repo = require_repository(options.repo or run.config.hub.repo or f"{run.path.resolve().name}")
    if not (options.card or options.repo or run.config.hub.repo):
        raise ValueError("--repo: owner/name is needed, since hub.repo of the run's configuration is null")
    publication = prepare_publication(RunDirectory(options.run), repo, options.step)
    try:
        if options.card:
            print((publication.folder / CARD).read_text(encoding="utf-8"), end="")
            return
        if missing := missing_for_upload():
            raise HubPushError(f"{repo} was not uploaded: {missing}")
        print(publication.upload(repo, private=not options.public))
    finally:
        publication.discard()


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
