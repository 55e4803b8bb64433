"""Memory of one machine's host: loading, what is offloaded, a sleeping engine's weights, verifier workers.

Loading takes one copy a machine: processes read the model's files one tensor at a time, or map them, and share what the
system has read of them. vLLM's sleep level 1 copies the engine's weights to the host of each process. Where there is no
GPU, training itself is on the host, and the engine with its caches.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from masa.config import Config
from masa.planning.shapes import BYTES, DecoderShape

_LIMIT = Path("/sys/fs/cgroup/memory.max")


@dataclass(frozen=True)
class HostMemory:
    """Bytes of one machine by part."""

    loading: int
    offloaded: int
    sleeping: int
    training: int
    sampling: int
    verifiers: int

    @property
    def total(self) -> int:
        """What is there at once. The loaded files are the system's to drop once they have been read."""
        return max(self.loading, self.offloaded + self.sleeping + self.training + self.sampling + self.verifiers)


def host_memory(
    config: Config,
    shape: DecoderShape,
    *,
    processes: int,
    offloaded: int,
    engine_weights: int | None,
    training: int,
    sampling: int,
) -> HostMemory:
    """The host of one machine with so many ``processes``; ``offloaded``, ``engine_weights``, ``training`` and
    ``sampling`` are bytes of one of them. ``engine_weights`` is None where no engine of vLLM is in the process."""
    rewards = config.rewards
    asleep = engine_weights if engine_weights is not None and config.rollout.sleep_level == 1 else 0
    return HostMemory(
        loading=shape.parameters * BYTES[config.model.dtype],
        offloaded=processes * offloaded,
        sleeping=processes * asleep,
        training=processes * training,
        sampling=processes * sampling,
        verifiers=processes * rewards.verifier_workers * rewards.verifier_memory_mb * 2**20,
    )


def memory_here() -> int:
    """Bytes of memory that this machine has, or its container may use."""
    installed = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit = _LIMIT.read_text().strip() if _LIMIT.is_file() else "max"
    return min(installed, int(limit)) if limit.isdigit() else installed
