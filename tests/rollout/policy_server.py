"""A server that samples from the policy, and late: `fake_server`'s routes before an engine of this process.

Requests join the batch that is being decoded when they come, as a vLLM server's do, so who shares a batch is the
clock's. Each waits for a random time before the engine is given it, and for another before it is answered.
"""

import queue
import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager

import torch
from fake_server import Handler, Server
from safetensors.torch import load_file

from masa.rollout.engine import Rollout, RolloutRequest, RolloutStream, Sampling
from masa.rollout.transformers.engine import TransformersEngine

_Asked = tuple[RolloutRequest, "Future[Rollout]"]


class PolicyHandler(Handler):
    server: "PolicyServer"

    def _completion(self, body: dict) -> dict:
        rollout = self.server.sample(
            RolloutRequest(
                "",
                "solution",
                body["prompt"],
                (body["seed"],),
                body["max_tokens"],
                Sampling(*(body[key] for key in ("temperature", "top_p", "top_k", "min_p"))),
            )
        )
        return {
            "token_ids": [*rollout.token_ids],
            "logprobs": {"token_logprobs": [*rollout.logprobs]},
            "finish_reason": rollout.finish_reason,
        }

    def _route(self, route: str, body: dict) -> dict | None:
        answer = super()._route(route, body)
        if route == "/update_weights":
            self.server.engine.update_weights(load_file(body["update_info"]["path"]).items(), 0)
        return answer


class PolicyServer(Server):
    """On a free port of this machine, until `closed`.

    Args:
        engine: what samples; it has a model of its own.
        longest: the most seconds that a request waits before it is sampled, and again before it is answered.
        delays: draws these waits.
    """

    def __init__(self, engine: TransformersEngine, longest: float, delays: random.Random) -> None:
        super().__init__(("127.0.0.1", 0), PolicyHandler)
        self.engine = engine
        self.answered: list[int] = []
        """The seeds of the samples, in the order in which they were given."""
        self._longest = longest
        self._delays = delays
        self._arrived: queue.Queue[_Asked | None] = queue.Queue()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def sample(self, request: RolloutRequest) -> Rollout:
        """The one sample of ``request``."""
        time.sleep(self._delays.uniform(0.0, self._longest))
        future: Future[Rollout] = Future()
        self._arrived.put((request, future))
        rollout = future.result()
        time.sleep(self._delays.uniform(0.0, self._longest))
        self.answered.append(request.seeds[0])
        return rollout

    @contextmanager
    def serving(self) -> Iterator["PolicyServer"]:
        """Within it the server answers."""
        threads = [threading.Thread(target=target, daemon=True) for target in (self.serve_forever, self._decode)]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            self.shutdown()
            self._arrived.put(None)
            for thread in threads:
                thread.join()
            self.server_close()

    def _decode(self) -> None:
        torch.set_num_threads(1)
        while (asked := self._arrived.get()) is not None:
            with self.engine.stream() as stream:
                waiting: dict[int, Future[Rollout]] = {}
                self._submit(asked, stream, waiting)
                while waiting:
                    for one in stream.take():
                        waiting.pop(one.number).set_result(one.rollout)
                    while not self._arrived.empty():
                        self._submit(self._arrived.get(), stream, waiting)

    def _submit(self, asked: _Asked | None, stream: RolloutStream, waiting: dict[int, "Future[Rollout]"]) -> None:
        assert asked is not None, "closed while it sampled"
        (number,) = stream.submit([asked[0]])
        waiting[number] = asked[1]
