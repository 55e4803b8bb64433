"""Folders of processes that were killed are removed; those of living ones, and foreign ones, are not."""

import json
import subprocess
import sys
from pathlib import Path

from masa.rollout.leftovers import claimed_folder


def _claimed_by_another_process(parent: Path) -> Path:
    script = (
        "from pathlib import Path; from masa.rollout.leftovers import claimed_folder; "
        f"print(claimed_folder(Path({str(parent)!r}), 'masa-weights'))"
    )
    return Path(
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.strip()
    )


def test_the_folder_of_a_process_that_is_gone_is_removed_and_no_other(tmp_path: Path) -> None:
    left = _claimed_by_another_process(tmp_path)
    (left / "weights.safetensors").write_bytes(b"0" * 1000)
    elsewhere = tmp_path / "masa-weights-elsewhere"
    elsewhere.mkdir()
    (elsewhere / "owner.json").write_text(json.dumps({"host": "another machine", "pid": 1, "started": 0.0}))
    nobodys = tmp_path / "masa-weights-nobodys"
    nobodys.mkdir()
    other = tmp_path / "masa-servers-x"
    other.mkdir()
    mine = claimed_folder(tmp_path, "masa-weights")
    second = claimed_folder(tmp_path, "masa-weights")
    assert not left.exists()
    assert all(folder.is_dir() for folder in (elsewhere, nobodys, other, mine, second))


def test_a_number_that_another_process_has_by_now_is_no_owner(tmp_path: Path) -> None:
    mine = claimed_folder(tmp_path, "masa-weights")
    owner = json.loads((mine / "owner.json").read_text())
    (mine / "owner.json").write_text(json.dumps({**owner, "started": owner["started"] - 100.0}))
    claimed_folder(tmp_path, "masa-weights")
    assert not mine.exists()
