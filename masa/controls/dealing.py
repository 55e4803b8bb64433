"""The order in which problems are dealt to processes, so that each gets about as much to sample."""

from __future__ import annotations

import heapq
import statistics
from collections.abc import Sequence

from masa.controls.plan import PredictedProblem
from masa.problems import Problem


def predicted_tokens(predicted: PredictedProblem, limit: int) -> float:
    """The length that a problem's metas predict for its solutions; the response limit where none says anything."""
    lengths = [one.length for one in predicted.predictions if one.length is not None]
    return min(float(limit), statistics.median(lengths)) if lengths else float(limit)


def dealt(predicted: Sequence[PredictedProblem], limit: int, processes: int) -> list[Problem]:
    """The problems in an order of which each process takes every ``processes``-th (`masa.session.Session.share`).

    One problem after the other, the longest first, goes to the process that has least so far, among those that have
    not got their number of problems. One process keeps the order that there was.
    """
    if processes == 1:
        return [one.problem for one in predicted]
    count = len(predicted)
    shares: list[list[Problem]] = [[] for _ in range(processes)]
    rooms = [len(range(process, count, processes)) for process in range(processes)]
    loads = [(0.0, process) for process in range(processes) if rooms[process]]
    for one in sorted(predicted, key=lambda one: predicted_tokens(one, limit), reverse=True):
        load, process = heapq.heappop(loads)
        shares[process].append(one.problem)
        if len(shares[process]) < rooms[process]:
            heapq.heappush(loads, (load + predicted_tokens(one, limit), process))
    return [shares[number % processes][number // processes] for number in range(count)]
