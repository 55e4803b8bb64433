"""Processes share servers: the first gives them weights, all see the same ones working, each samples its own."""

import json
from pathlib import Path
from typing import Any

from fake_server import completion
from fakes import Fakes
from server_ranks import TENSORS, requests_of
from two_processes import run_on_two_processes


def test_two_processes_lose_a_server_and_get_it_back_and_no_sample_is_lost(fakes: Fakes, tmp_path: Path) -> None:
    addresses = [fakes.start(0.02), fakes.start(0.02)]
    servers = [str(number) for place, port in enumerate(fakes.ports) for number in (port, fakes.pid(place))]
    run_on_two_processes(Path(__file__).with_name("server_ranks.py"), str(tmp_path), *servers, timeout=200)
    for rank in range(2):
        seen: dict[str, Any] = json.loads((tmp_path / f"rank-{rank}.json").read_text())
        for name, version in (("both servers", 1), ("one dies", 1), ("one server", 2), ("both again", 2)):
            assert seen[name] == [
                [[*completion(list(request.prompt_ids), seed, 12)["token_ids"], version] for seed in request.seeds]
                for request in requests_of(rank)
            ]
        assert seen["working after the update"] == addresses[:1]
        assert seen["tensors taken"] == 2 * TENSORS, "what is sharded is gathered by both together"
