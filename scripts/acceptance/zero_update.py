"""``accelerate launch ... -m acceptance.zero_update SIZE ANSWER``: updates of the real shape under a launch file."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from acceptance.shapes import random_qwen3
from acceptance.update import measured_updates


def main(size: str, answer: str) -> int:
    """Measure, and write the figures; returns the exit code."""
    from masa.distributed.processes import make_accelerator

    accelerator = make_accelerator()
    model = random_qwen3(size)
    model.gradient_checkpointing_enable({"use_reentrant": False})
    figures = measured_updates(model.train(), size, accelerator=accelerator)
    Path(answer).write_text(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
