"""Folders of processes that were killed are removed; those of living ones, and foreign ones, are not."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from masa.rollout.servers.leftovers import claimed_folder


def _process_with_a_folder(parent: Path) -> "tuple[subprocess.Popen[str], Path]":
    script = (
        "import time; from pathlib import Path; from masa.rollout.servers.leftovers import claimed_folder; "
        f"print(claimed_folder(Path({str(parent)!r}), 'masa-weights', private=True), flush=True); time.sleep(600)"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def test_the_folder_of_a_killed_process_is_removed_and_no_other(tmp_path: Path) -> None:
    process, folder = _process_with_a_folder(tmp_path)
    try:
        (folder / "weights.safetensors").write_bytes(b"0" * 1000)
        foreign = [tmp_path / "masa-weights-foreign", tmp_path / "masa-servers-x"]
        for other in foreign:
            other.mkdir()
        mine = claimed_folder(tmp_path, "masa-weights", private=True)
        assert folder.exists(), "its process lives"
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    second = claimed_folder(tmp_path, "masa-weights", private=True)
    assert not folder.exists()
    assert all(one.is_dir() for one in (*foreign, mine, second))


def test_a_folder_that_is_not_private_can_be_read_by_servers_of_other_users(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        modes = [claimed_folder(tmp_path, "x", private=private).stat().st_mode & 0o777 for private in (True, False)]
    finally:
        os.umask(before)
    assert modes == [0o700, 0o755]
