"""Token ids and log-probs from the processes that have them to those that need them, as one flat array for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from masa.tokens.arrays import LogProbs, TokenIds
from masa.tokens.elsewhere import Elsewhere, ElsewhereError


@dataclass(frozen=True)
class Place:
    """Which of how many processes this is, and the device of what processes send one another."""

    process: int = 0
    processes: int = 1
    device: torch.device | str = "cpu"


@dataclass(frozen=True)
class Tokens:
    """[L] token ids of one response, and the engine's log-probs of them; of both the numbers, or `Elsewhere`."""

    token_ids: Sequence[int]
    logprobs: Sequence[float]

    @property
    def are_here(self) -> bool:
        return not isinstance(self.token_ids, Elsewhere)


def exchange(responses: Sequence[Tokens], wanted: Sequence[Sequence[int]], place: Place) -> Mapping[int, Tokens]:
    """The numbers of those ``responses`` that this process wants, by their index there.

    All processes call it together, with the same responses in the same order (but for which of them have the numbers)
    and the same ``wanted``, which holds the indices that each process needs. A response goes only to processes that
    need it and do not have it, 8 bytes a token.

    Raises:
        ElsewhereError: no process has the numbers of a response that one needs; on all of them.
    """
    found = {index: responses[index] for index in wanted[place.process] if responses[index].are_here}
    if place.processes == 1 or not any(wanted):
        return found
    have = _who_has(responses, place)
    # The first of those that have it gives it.
    moves = [
        [(have[:, index].argmax(), index) for index in indices if not have[process, index]]
        for process, indices in enumerate(wanted)
    ]
    for _, index in (move for of_one in moves for move in of_one):
        if not have[:, index].any():
            raise ElsewhereError(f"response {index} of {len(responses)}: no process has its tokens any more")
    if not any(moves):
        return found
    sent = [[index for source, index in of_one if source == place.process] for of_one in moves]
    own = moves[place.process]
    received = [[index for source, index in own if source == process] for process in range(place.processes)]

    numbers = _swap(
        [_flat([responses[index] for index in indices]) for indices in sent],
        [2 * sum(len(responses[index].token_ids) for index in indices) for indices in received],
        place,
    )
    start = 0
    for index in (index for indices in received for index in indices):
        length = len(responses[index].token_ids)
        ids, bits = numbers[start : start + length], numbers[start + length : start + 2 * length]
        found[index] = Tokens(TokenIds(ids), LogProbs(bits.view(np.float32)))
        start += 2 * length
    return found


def _who_has(responses: Sequence[Tokens], place: Place) -> Any:
    """[P, R] of P processes and R responses: whether each has the numbers of each."""
    own = torch.tensor([[one.are_here for one in responses]], dtype=torch.uint8, device=place.device)
    everyone = [torch.empty_like(own) for _ in range(place.processes)]
    torch.distributed.all_gather(everyone, own)
    return torch.cat(everyone).cpu().numpy().astype(bool)


def _flat(responses: Sequence[Tokens]) -> Any:
    """[2 T] int32: of each response its token ids, and then the bits of its log-probs."""
    parts = [
        part
        for one in responses
        for part in (np.asarray(one.token_ids, np.int32), np.asarray(one.logprobs, np.float32).view(np.int32))
    ]
    return np.concatenate(parts) if parts else np.zeros(0, np.int32)


def _swap(parts: Sequence[Any], lengths: Sequence[int], place: Place) -> Any:
    """What all processes have for this one, one after the other, ``lengths`` numbers of each; ``parts`` go to each."""
    outgoing = torch.from_numpy(np.concatenate(parts)).to(place.device)
    incoming = torch.empty(sum(lengths), dtype=torch.int32, device=place.device)
    torch.distributed.all_to_all_single(incoming, outgoing, list(lengths), [len(part) for part in parts])
    return incoming.cpu().numpy()
