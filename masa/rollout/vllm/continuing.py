"""Samples that go on in another request of vLLM's: which random number comes next, and what one has drawn so far.

vLLM's first model runner draws a sample's tokens with a generator of its own, seeded when the request begins. A request
that goes on behind a sample's tokens would begin with the numbers of the first token again, so its generator is put to
where it was. The second runner's numbers follow from seed and position, and need nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

DRAWN = "masa_drawn"
"""The name, among a request's extra arguments, of the number of tokens that were drawn of it before."""


def let_samples_go_on(worker: Any) -> None:
    """Have a worker's model runner put the generators of requests with `DRAWN` to where they were; called once."""
    runner = worker.model_runner
    update = getattr(runner, "_update_states", None)
    if update is None or not hasattr(runner, "requests"):
        return

    def updated(scheduled: Any, *arguments: Any, **options: Any) -> Any:
        found = update(scheduled, *arguments, **options)
        for new in scheduled.scheduled_new_reqs:
            drawn = ((new.sampling_params and new.sampling_params.extra_args) or {}).get(DRAWN, 0)
            request = runner.requests[new.req_id]
            if drawn and request.generator is not None:
                skip_tokens(request.generator, drawn, runner.sampler.topk_topp_sampler, runner.input_batch.vocab_size)
        return found

    runner._update_states = updated


def skip_tokens(generator: torch.Generator, count: int, sampler: Any, width: int) -> None:
    """Put ``generator`` behind the numbers of so many tokens, as vLLM's ``sampler`` of this version draws them.

    A GPU's generator counts: what one token takes, all of them take. A CPU's has to draw them.
    """
    on_cpu = generator.device.type == "cpu"
    start = None if on_cpu else generator.get_offset()
    for _ in range(count if on_cpu else 1):
        sampler.forward(torch.zeros((1, width), device=generator.device), {0: generator}, None, None)
    if start is not None:
        generator.set_offset(start + count * (generator.get_offset() - start))


def drawn_so_far(processor: Any) -> Mapping[str, Any]:
    """The tokens and log-probs of the requests that vLLM's output processor still has, by the names they were given."""
    return {
        getattr(state, "external_req_id", name): state
        for name, state in processor.request_states.items()
        if state.detokenizer is not None and state.detokenizer.output_token_ids
    }
