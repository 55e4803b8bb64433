"""The example scripts for clusters, rehearsed: commands of the cluster are stand-ins that run everything here."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from launched_runs import ROOT, environment
from test_launch_files import SMALL, assert_it_trained
from two_processes import free_port

pytest.importorskip("deepspeed", reason="needs deepspeed (the extra deepspeed)")

STAND_INS = {
    "ssh": '#!/usr/bin/env bash\n[ "$1" = -tt ] && shift\nshift\nexec bash -c "$*"\n',
    "scontrol": "#!/usr/bin/env bash\necho 127.0.0.1\necho other-node\n",
    "srun": '#!/usr/bin/env bash\nSLURM_NODEID=0 "$@" &\nSLURM_NODEID=1 "$@" &\nwait -n && wait -n\n',
}


@pytest.mark.slow
@pytest.mark.parametrize("script", ["launch_slurm.sh", "launch_ssh.sh"])
def test_an_example_script_trains_on_two_nodes(script: str, tmp_path: Path) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    for name, text in STAND_INS.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    port = str(free_port())
    cluster = {
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "PYTHON": sys.executable,
        "PROCESSES_PER_NODE": "1",
        "MASTER_PORT": port,
        "NODES": "127.0.0.1 127.0.0.1",
        "SLURM_JOB_NODELIST": "two nodes",
        "SLURM_NNODES": "2",
    }
    train = ["--config", "configs/quickstart.yaml", *SMALL, "model.dtype=bfloat16", f"run.dir={tmp_path / 'a run'}"]
    done = subprocess.run(
        ["bash", f"scripts/{script}", *train],
        cwd=ROOT,
        env={**environment(), **cluster},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert_it_trained(tmp_path / "a run")
