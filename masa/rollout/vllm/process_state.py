"""Keeping an engine in this process from changing the process: random states, threads, environment."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def preserved_random_states() -> Iterator[None]:
    """Give Python's, NumPy's and torch's global random states back as they were.

    vLLM seeds and draws from them; a resumed run draws another number of times, and would go on differently.
    """
    python, numpy, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        torch.set_rng_state(cpu)
        if cuda is not None:
            torch.cuda.set_rng_state_all(cuda)


@contextmanager
def preserved_process(variables: Mapping[str, str]) -> Iterator[None]:
    """Set environment ``variables`` for the block; afterwards the environment and torch's threads are as before.

    Variables that the user has set keep the user's value.
    """
    before = dict(os.environ)
    set_threads, threads = torch.set_num_threads, torch.get_num_threads()
    os.environ.update({name: value for name, value in variables.items() if name not in before})
    try:
        with preserved_random_states():
            yield
    finally:
        torch.set_num_threads = set_threads
        torch.set_num_threads(threads)
        for name in set(os.environ) - set(before):
            del os.environ[name]
        os.environ.update(before)


@contextmanager
def process_group_kept() -> Iterator[None]:
    """Within this context vLLM does not destroy the process group, which the trainer has made and still needs."""
    from vllm.v1.engine import core

    original = vars(core)["cleanup_dist_env_and_memory"]
    vars(core)["cleanup_dist_env_and_memory"] = lambda: None
    try:
        yield
    finally:
        vars(core)["cleanup_dist_env_and_memory"] = original
