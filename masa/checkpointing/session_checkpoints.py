"""A session's checkpoints: what of it is written, by all processes at once, and taken up again.

With ``checkpoint.background`` a save copies what is to be written to the host's memory, and a thread writes while the
run goes on. The checkpoint takes its name when all processes agree, between two steps, that all of them are done.
"""

from __future__ import annotations

import math
import socket
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import psutil

from masa.checkpointing import checkpoint
from masa.checkpointing.checkpoint import CheckpointError
from masa.checkpointing.saved_rollouts import (
    CARRIED_OVER,
    put_aside,
    read_carried_over,
    read_put_aside,
    read_rollouts_ahead,
    rollout_parts,
    rollouts_ahead,
)
from masa.checkpointing.saving import complete_policy, policy_parts, restore_policy, write_settings
from masa.checkpointing.writing import CheckpointWriting
from masa.config import Config
from masa.controls.controls import Controls
from masa.distributed.together import Together, from_first
from masa.files.checked_files import CheckedFiles, FileRecord
from masa.files.tensor_files import Part, write_parts
from masa.flow.ahead import RolloutsAhead
from masa.flow.dynamic_sampling import DynamicSampling
from masa.flow.partial import PutAside
from masa.model.weights import weight_sizes
from masa.policy.update.updater import PolicyUpdater
from masa.preflight import Prepared
from masa.problems.mixture import Sampler
from masa.rollout.engine import RolloutEngine
from masa.rollout.moving import bring, spread
from masa.rollout.waiting import Waiting
from masa.tokens.exchange import Place
from masa.tracking.run_directory import RunDirectory

if TYPE_CHECKING:
    from accelerate import Accelerator
    from transformers import PreTrainedModel

_Answer = TypeVar("_Answer")
_One = TypeVar("_One")
_CONTAINER = Path("/sys/fs/cgroup")
# The share of a host's free memory that copies for a checkpoint may take: a step needs some as well.
_LARGEST_SHARE = 0.7


class Saved(Protocol):
    """What checkpoints hold, of an open session, and how its processes share work."""

    accelerator: Accelerator
    model: PreTrainedModel
    engine: RolloutEngine
    updater: PolicyUpdater
    controls: Controls
    rollouts: RolloutsAhead
    dynamic_sampling: DynamicSampling | None
    put_aside: PutAside | None

    @property
    def place(self) -> Place: ...

    def share(self, items: Sequence[_One]) -> list[_One]: ...

    def gather_objects(self, objects: list[Any]) -> list[Any]: ...


class SessionCheckpoints:
    """Saves and restores an open ``session``; all processes call each method together."""

    def __init__(self, session: Saved, config: Config, prepared: Prepared) -> None:
        self._session = session
        self._prepared = prepared
        self._model = config.model
        self._section = config.checkpoint
        accelerator = session.accelerator
        self._together = Together(accelerator.process_index, accelerator.num_processes, session.gather_objects)
        self._writing: CheckpointWriting | None = None
        self._thread: threading.Thread | None = None

    def save(
        self,
        directory: RunDirectory,
        step: int,
        sampler: Sampler,
        metrics: Mapping[str, float],
        *,
        wait: bool,
    ) -> str | None:
        """Write a checkpoint; without ``wait`` in the background, where that is asked for. What to say of it, if so.

        Raises:
            CheckpointError: it, or the one before, cannot be written; earlier ones are untouched.
        """
        self.settle(wait=True)
        whole = self._section.contents == "all"
        state, rollouts = self._training_state(sampler) if whole else ({}, iter(()))
        updater = self._session.updater if whole else None
        score = metrics.get(self._section.best_metric) if self._section.best_metric else None
        writing = CheckpointWriting(
            directory.checkpoints,
            step,
            state,
            retention=checkpoint.Retention(self._section.keep, self._section.best_is),
            score=score if score is not None and math.isfinite(score) else None,
            contents=self._section.contents,
            together=self._together,
            complete=complete_policy,
        )
        writing.begin()
        short = None if wait or not self._section.background else self._short_of_memory(whole)
        parts = chain(policy_parts(self._session.model, updater, self._together), rollouts)
        if wait or short or not self._section.background:
            writing.write(lambda folder: self._write_all(folder, parts))
            writing.finish()
            return short
        copies = [part.on_host() for part in parts]
        self._writing = writing
        self._thread = threading.Thread(
            target=writing.write, args=(lambda folder: self._write_all(folder, copies),), name="masa-checkpoint"
        )
        self._thread.daemon = True
        self._thread.start()
        return None

    def settle(self, *, wait: bool = False) -> None:
        """Give the checkpoint that is being written its name if all processes are done; with ``wait`` once they are.

        Raises:
            CheckpointError: it cannot be written; earlier ones are untouched.
        """
        if self._writing is None or self._thread is None:
            return
        if wait:
            self._thread.join()
        elif any(self._together.gather([self._thread.is_alive()])):
            return
        writing, self._writing = self._writing, None
        writing.finish()

    @property
    def is_writing(self) -> bool:
        """Whether a checkpoint has no name yet; the same on all processes."""
        return self._writing is not None

    def close(self) -> None:
        """End writing in the background: alone to its end, else without a checkpoint, for others may be gone."""
        if self._writing is not None and self._thread is not None:
            self._thread.join()
            if self._together.processes == 1:
                with suppress(CheckpointError):
                    self.settle(wait=True)
            elif self._together.first:
                self._writing.abandon()
            self._writing = None

    def restore(self, directory: RunDirectory, sampler: Sampler) -> int | None:
        """Take the newest whole checkpoint's state and return its step; None where there is no checkpoint.

        Raises:
            CheckpointError: there are checkpoints, and all of them are broken, or hold the model alone.
        """
        folder = directory.checkpoints
        candidates = self._from_first(lambda: checkpoint.resumable_checkpoints(folder))
        found = checkpoint.newest_whole_checkpoint(folder, candidates, lambda path: self._take(path, sampler))
        if found.newest is None:
            return None
        step = found.newest[0]
        if self._together.first:
            checkpoint.put_later_aside(folder, step)
            passed = [f"the checkpoint {name} holds the model alone" for name in found.models]
            for warning in (*found.warnings, *passed):
                warnings.warn(f"{warning}; resuming from step {step}", stacklevel=2)
        self._session.engine.update_weights(self._session.model, version=step)
        return step

    def _training_state(self, sampler: Sampler) -> tuple[dict[str, Any], Iterator[Part]]:
        """What else a run needs to go on: JSON values, and this process's rollouts."""
        session = self._session
        ahead = session.rollouts.state()
        carried = session.dynamic_sampling.state() if session.dynamic_sampling else Waiting()
        aside = session.put_aside.state() if session.put_aside else Waiting()
        state = {
            "sampler": sampler.state_dict(),
            "rollouts_ahead": self._together.gather([ahead.layout]),
            "controls": session.controls.state_dict(),
            "policy": session.updater.state_dict(),
            "carried_over": carried.layout,
            "informative_ahead": list(session.dynamic_sampling.ahead) if session.dynamic_sampling else [],
        }
        own = rollout_parts(rollouts_ahead(self._together.process), ahead)
        if session.put_aside:
            state["put_aside"] = self._together.gather([aside.layout])
            own = chain(own, rollout_parts(put_aside(self._together.process), aside))
        # Every process knows what is carried over, and has the tokens of some of it; the first one writes.
        wanted = [range(len(carried.rollouts) if process == 0 else 0) for process in range(session.place.processes)]
        brought = [one for _, one in sorted(bring(carried.rollouts, wanted, session.place).items())]
        return state, chain(own, rollout_parts(CARRIED_OVER, replace(carried, rollouts=brought)))

    def _write_all(self, folder: Path, parts: Iterable[Part]) -> dict[str, FileRecord]:
        if self._together.first:
            write_settings(folder, self._session.model, self._prepared.tokenizer)
        return write_parts(folder, parts)

    def _short_of_memory(self, whole: bool) -> str | None:
        """Why the run has to wait for this checkpoint; None where each host has room for its processes' copies."""
        session = self._session
        own = sum(weight_sizes(session.model)) // self._together.processes
        if whole:
            own += sum(part.tensor.nbytes for part in session.updater.state_parts("optimizer"))
        needed, room = Counter[str](), dict[str, int]()
        for host, size, there in self._together.gather([(socket.gethostname(), own, _free_memory())]):
            needed[host] += size
            room[host] = min(there, room.get(host, there))
        for host, size in needed.items():
            if size > _LARGEST_SHARE * room[host]:
                return (
                    f"checkpoint.background: not now: copies for a checkpoint take {size / 1e9:.1f} GB on {host}, "
                    f"which has {room[host] / 1e9:.1f} GB free; the run waits while it is written"
                )
        return None

    def _take(self, path: Path, sampler: Sampler) -> str | None:
        """Take a checkpoint's state; what is wrong with it, the same on all processes. Then another one must be taken.

        Each process reads, and compares with their checksums, its own parts; files that nobody needed are shared out.
        """
        damage = self._from_first(lambda: checkpoint.find_missing(path))
        if damage is not None:
            return damage
        session, state = self._session, checkpoint.read_state(path)
        checked = CheckedFiles(path, checkpoint.read_records(path))
        ahead = read_rollouts_ahead(checked, state["rollouts_ahead"])
        carried = read_carried_over(checked, state["carried_over"])
        aside = read_put_aside(checked, state.get("put_aside", ()))
        damage = self._damage(checked)
        if damage is None:
            restore_policy(checked, self._model, session.updater, state["policy"])
            self._compare_others(checked)
            damage = self._damage(checked)
        checked.close()
        if damage is not None:
            return damage
        sampler.load_state_dict(state["sampler"])
        session.controls.load_state_dict(state["controls"])
        if session.dynamic_sampling is not None:
            own = replace(carried, rollouts=spread(carried.rollouts, session.place))
            session.dynamic_sampling.restore(own, self._prepared.train)
            # Earlier versions counted nothing of the steps ahead.
            session.dynamic_sampling.ahead = list(state.get("informative_ahead", ()))
        if session.put_aside is not None:
            session.put_aside.restore(aside, self._prepared.train, session.place)
        session.rollouts.restore(ahead, self._prepared.train, session.share)
        return None

    def _compare_others(self, checked: CheckedFiles) -> None:
        """Compare, each process a share, the blocks of files that no process has read."""
        everyone = self._together.gather([checked.compared()])
        others = [
            (name, block)
            for name, record in checked.records.items()
            if isinstance(record.checksums, str)
            for block in range(record.blocks)
            if not any(one.get(name, b"")[block : block + 1] == b"\1" for one in everyone)
        ]
        for name, block in others[self._together.process :: self._together.processes]:
            checked.compare(name, [block])

    def _damage(self, checked: CheckedFiles) -> str | None:
        found = self._together.gather([checked.damage])
        return next((one for one in found if one is not None), None)

    def _from_first(self, ask: Callable[[], _Answer]) -> _Answer:
        """What the first process answers, on every process; the first one alone says what went wrong."""
        try:
            return from_first(ask, CheckpointError, first=self._together.first)
        except CheckpointError as error:
            raise CheckpointError(str(error), first=self._together.first) from error


def _free_memory() -> int:
    """Bytes that the host, or the container that the run is in, has left; what files are kept there does not count."""
    free = int(psutil.virtual_memory().available)
    limit = _CONTAINER / "memory.max"
    if limit.is_file() and (most := limit.read_text().strip()) != "max":
        counts = dict(line.split() for line in (_CONTAINER / "memory.stat").read_text().splitlines())
        used = int((_CONTAINER / "memory.current").read_text()) - int(counts["file"])
        free = min(free, int(most) - used)
    return free
