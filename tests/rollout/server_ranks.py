"""A run of two processes with two servers, one of which is killed and started again: ``server_ranks.py FOLDER PORT PID
PORT PID``. Each process writes what it sampled and saw to FOLDER.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from fakes import until

from masa.config import load_config
from masa.rollout import RolloutRequest
from masa.rollout.servers.engine import ServerEngine

MODEL: Any = SimpleNamespace(dtype=torch.float32)
TENSORS = 5


def requests_of(rank: int) -> list[RolloutRequest]:
    return [
        RolloutRequest(f"p{number}", "solution", (number, 2, 3), (number, number + 100), 12)
        for number in range(rank, 8, 2)
    ]


def main(folder: Path, ports: list[int], pids: list[int]) -> None:
    torch.distributed.init_process_group("gloo")
    rank = torch.distributed.get_rank()
    options = {"servers": [f"http://127.0.0.1:{port}" for port in ports], "server_wait": 60.0, "server_patience": 1.0}
    section = load_config(None, [f"rollout.{key}={value}" for key, value in options.items()]).rollout
    engine = ServerEngine(MODEL, section, stop_ids=[1], max_model_len=64)
    seen: dict[str, Any] = {}
    taken: list[int] = []

    def weights() -> Iterator[tuple[str, torch.Tensor]]:
        for number in range(TENSORS):
            taken.append(number)
            yield f"w{number}", torch.ones(3)

    def sample(name: str) -> None:
        groups = engine.generate(requests_of(rank))
        seen[name] = [[[*rollout.token_ids, rollout.weight_version] for rollout in group] for group in groups]

    restarted = None
    engine.update_weights(weights(), 1)
    sample("both servers")
    torch.distributed.barrier()
    if rank == 0:
        os.kill(pids[1], signal.SIGKILL)
    sample("one dies")
    until(lambda: engine._fleet.working() == [options["servers"][0]])
    torch.distributed.barrier()
    engine.update_weights(weights(), 2)
    seen["working after the update"] = engine._fleet.working()
    sample("one server")
    if rank == 0:
        script = str(Path(__file__).with_name("fake_server.py"))
        restarted = subprocess.Popen([sys.executable, script, str(ports[1]), "0.0"])
    until(lambda: len(engine._fleet.working()) == 2)
    sample("both again")
    seen["tensors taken"] = len(taken)
    torch.distributed.barrier()
    engine.close()
    if restarted is not None:
        restarted.kill()
    (folder / f"rank-{rank}.json").write_text(json.dumps(seen))


if __name__ == "__main__":
    numbers = [int(argument) for argument in sys.argv[2:]]
    main(Path(sys.argv[1]), numbers[::2], numbers[1::2])
