"""Whether masa works on this machine's GPU: every part that uses one, smallest first, each in a process of its own.

    python scripts/gpu_acceptance.py --minutes 8 --out acceptance.json
    python scripts/gpu_acceptance.py --parts update_padded,zero2 --out acceptance.json

It needs no network. What is not installed is skipped by name; without a GPU the parts that can do without one are
rehearsed on the CPU with small sizes. Exit code: 0 where nothing failed, 1 where something did, 2 for wrong arguments.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from acceptance.catalogue import PARTS, ArgumentError, select
from acceptance.report import as_json, as_table, write_json
from acceptance.session import Acceptance


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=8.0, help="for everything together (default: 8)")
    parser.add_argument("--out", type=Path, required=True, help="JSON file for versions, device, results and figures")
    parser.add_argument("--parts", help=f"some of: {', '.join(part.name for part in PARTS)} (default: all)")
    parser.add_argument("--cpu", action="store_true", help="rehearse on the CPU although there is a GPU")
    options = parser.parse_args(arguments)
    try:
        if not options.minutes > 0:
            raise ArgumentError(f"--minutes: found {options.minutes:g}, allowed: above 0")
        if not options.out.resolve().parent.is_dir():
            raise ArgumentError(f"--out: found {options.out}, whose folder does not exist")
        parts = select(options.parts)
    except ArgumentError as error:
        print(f"gpu_acceptance: {error}", file=sys.stderr)
        return 2
    acceptance = Acceptance(parts, seconds=60 * options.minutes, on_cpu=options.cpu)
    # After every part: a machine that goes away leaves what was found until then.
    for results in acceptance.run():
        print(results[-1].line(), flush=True)
        write_json(options.out, as_json(acceptance, results))
    print()
    print(as_table(acceptance, results))
    return int(any(result.status == "failed" for result in results))


if __name__ == "__main__":
    sys.exit(main())
