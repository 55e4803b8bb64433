"""Parts of an acceptance that end in every way."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from acceptance.child import NotPossibleError


def passes(size: str, folder: Path) -> dict[str, Any]:
    print("\x00\xff {not json")
    sys.stdout.buffer.write(b"\xff\xfe\x00 garbage\n")
    return {"size": size, "number": 1.5, "path": os.environ["PYTHONPATH"], "offline": os.environ["HF_HUB_OFFLINE"]}


def raises(size: str, folder: Path) -> dict[str, Any]:
    raise ValueError("the first line\nand a second")


def cannot(size: str, folder: Path) -> dict[str, Any]:
    raise NotPossibleError("2 moons needed, found 1")


def lacks_package(size: str, folder: Path) -> dict[str, Any]:
    import no_such_package_anywhere.inside  # noqa: F401

    return {}


def lacks_module(size: str, folder: Path) -> dict[str, Any]:
    import json.no_such_module  # noqa: F401

    return {}


def segfaults(size: str, folder: Path) -> dict[str, Any]:
    print("about to die", flush=True)
    os.kill(os.getpid(), signal.SIGSEGV)
    return {}


def is_killed(size: str, folder: Path) -> dict[str, Any]:
    os.kill(os.getpid(), signal.SIGKILL)
    return {}


def exits(size: str, folder: Path) -> dict[str, Any]:
    print("Error: no more", flush=True)
    os._exit(7)


def answers_garbage(size: str, folder: Path) -> dict[str, Any]:
    Path(sys.argv[-1]).write_text("[1, 2")
    os._exit(0)


def hangs(size: str, folder: Path) -> dict[str, Any]:
    _leave_a_child()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        time.sleep(1)


def leaves_a_child(size: str, folder: Path) -> dict[str, Any]:
    _leave_a_child()
    return {}


def _leave_a_child() -> None:
    """In a session of its own, whose parent ends at once."""
    script = (
        "import subprocess, sys; child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], "
        "start_new_session=True); open(sys.argv[1], 'w').write(str(child.pid))"
    )
    subprocess.run([sys.executable, "-c", script, os.environ["TRIAL_PID_FILE"]], check=True)
