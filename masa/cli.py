"""The command ``masa``: each subcommand is the module of the same name, also started as ``python -m masa.NAME``.

Where a name has a hyphen, the module has an underscore.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

from masa.arguments import EXIT_BAD_INPUT

# Subcommand: the module that has its command line as ``main(arguments) -> exit code``, and what it does.
COMMANDS: dict[str, tuple[str, str]] = {
    "train": ("masa.train", "train a policy"),
    "cold-start": ("masa.cold_start.command", "teach a policy the form of meta-predictions, before training"),
    "evaluate": ("masa.evaluate", "evaluate a model or a run's checkpoint on benchmarks"),
    "predict": ("masa.predict", "what a policy predicts of problems before solving them"),
    "problems": ("masa.problems.command", "look at problems before training: rows, prompts, lengths, gold answers"),
    "report": ("masa.report", "compare runs and evaluations in one HTML page"),
    "push": ("masa.push", "upload a run's policy to the Hugging Face hub, with a model card"),
    "study": ("masa.study", "train several configurations with the same seeds and compare them"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the subcommand that ``arguments`` begin with; its exit code comes back, or 2 where there is none."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if arguments is None and os.getcwd() not in sys.path and "" not in sys.path:
        # As with `python -m`: callbacks, rewards and verifiers of the user's own lie in the current folder.
        sys.path.insert(0, os.getcwd())
    if given and given[0] in ("-h", "--help"):
        print(_usage())
        return 0
    if not given or given[0] not in COMMANDS:
        found = f"found {given[0]!r}" if given else "a command is missing"
        print(f"masa: {found}, allowed: {', '.join(COMMANDS)}\n\n{_usage()}", file=sys.stderr)
        return EXIT_BAD_INPUT
    module, _ = COMMANDS[given[0]]
    return int(importlib.import_module(module).main(given[1:]))


def _usage() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {meaning}" for name, (_, meaning) in COMMANDS.items()]
    return "usage: masa COMMAND ...\n\n" + "\n".join(lines) + "\n\nmasa COMMAND --help lists a command's options."


if __name__ == "__main__":
    sys.exit(main())
