"""A vLLM server without vLLM: the routes that `ServerEngine` uses, and samples that depend on prompt and seed alone.

``python fake_server.py PORT SECONDS_A_SAMPLE [DEFECT]``; a defect is one of ``updates`` (every update fails),
``samples`` (every sample fails) or ``parts`` (an update that has begun fails). It is strict where a real one is: an
update outside of a pause is refused, and so is one that was not started, or that comes through a group it is not in.
It refuses samples that leave a parameter of sampling to the model's defaults, where a real one takes these.
Requests that come in a pause wait for its end.
"""

import json
import random
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

# What a real server takes from the model's generation_config where a request leaves it out.
DEFAULTED = {
    *("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "presence_penalty", "frequency_penalty"),
    "max_tokens",
}


def completion(prompt: list[int], seed: int, limit: int) -> dict:
    """Tokens and log-probs; about half of the samples stop before their limit."""
    generator = random.Random(f"{prompt} {seed}")
    length = generator.randint(1, 2 * limit)
    tokens = [generator.randint(2, 99) for _ in range(min(length, limit))]
    if length <= limit:
        tokens[-1] = 1
    return {
        "token_ids": tokens,
        "logprobs": {"token_logprobs": [-token / 100 for token in tokens]},
        "finish_reason": "stop" if length <= limit else "length",
    }


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    seconds = 0.0
    defect = ""
    server: "Server"

    def do_GET(self) -> None:
        state = self.server.state
        answers = {
            "/health": {},
            "/weight_info": {"weight_version": state["label"]},
            "/v1/models": {"data": [{"id": "fake"}]},
            "/get_world_size": {"world_size": 2},
            "/groups": state["groups"],
            "/is_paused": {"is_paused": state["paused"]},
            "/state": state,
        }
        if self.path == "/metrics":
            self._answer(200, f'vllm:num_requests_running{{engine="0"}} {state["requests"]}\n', "text/plain")
        elif self.path in answers:
            self._answer(200, json.dumps(answers[self.path]))
        else:
            self._answer(404, "{}")

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"null") or {}
        route, _, query = self.path.partition("?")
        try:
            assert route != "/pause" or query == "mode=wait", "samples would be lost or go on under other weights"
            answer = self._route(route, body)
        except AssertionError as error:
            self._answer(500, json.dumps({"error": str(error)}))
        else:
            self._answer(404 if answer is None else 200, json.dumps(answer or {}))

    def _route(self, route: str, body: dict) -> dict | None:
        state = self.server.state
        match route:
            case "/v1/completions":
                assert self.defect != "samples", "broken"
                assert set(body) >= DEFAULTED, f"the model's defaults would act for {sorted(DEFAULTED - set(body))}"
                while state["paused"]:
                    time.sleep(0.01)
                made = self._completion(body)
                state["requests"] += 1
                return {"choices": [made]}
            case "/pause":
                state["paused"] = True
            case "/start_weight_update":
                assert state["paused"], "not paused"
                assert not state["updating"], "an update is open"
                assert self.defect != "updates", "broken"
                state["updating"] = True
            case "/update_weights":
                assert state["updating"], "no update was started"
                assert self.defect != "parts", "broken"
                if "names" in body["update_info"]:
                    assert state["groups"], "in no group"
                    state["announced"].append(body["update_info"])
                else:
                    assert Path(body["update_info"]["path"]).is_file(), "no file"
                state["files"] += 1
            case "/init_weight_transfer_engine":
                state["groups"].append(body["init_info"])
            case "/reset_prefix_cache":
                pass
            case "/finish_weight_update":
                state["updating"] = False
                state["label"] = body.get("weight_version", state["label"])
            case "/resume":
                state["paused"] = False
            case "/collective_rpc":
                return {"results": ["7"]}
            case _:
                return None
        return {"ok": True}

    def _completion(self, body: dict) -> dict:
        time.sleep(self.seconds)
        return completion(body["prompt"], body["seed"], body["max_tokens"])

    def _answer(self, status: int, text: str, kind: str = "application/json") -> None:
        data = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        return


class Server(ThreadingHTTPServer):
    request_queue_size = 128
    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, address: tuple[str, int], handler: type[Handler]) -> None:
        super().__init__(address, handler)
        self.state: dict[str, Any] = {
            "label": "default",
            "paused": False,
            "updating": False,
            "files": 0,
            "requests": 0,
            "groups": [],
            "announced": [],
        }


if __name__ == "__main__":
    Handler.seconds = float(sys.argv[2])
    Handler.defect = sys.argv[3] if len(sys.argv) > 3 else ""
    Server(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
