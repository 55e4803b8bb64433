"""What a process computes on, and how fast that is: from a data sheet, as given, or measured."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass

from masa.config import ConfigError
from masa.planning.data_sheets import DATA_SHEETS, DataSheet, data_sheet

# Larger than caches, small enough for a fraction of a second.
_PRODUCT = 512
_READ = (4096, 8192)
_REPEATS = 4
_ENOUGH_SECONDS = 0.2


@dataclass(frozen=True)
class Utilization:
    """Shares of a device's speed that are reached: of its operations a second, and of its memory's bytes a second.

    The defaults are assumptions: what updates of models with billions of parameters reach on GPUs, and what engines do
    that read weights and caches.
    """

    operations: float = 0.4
    memory: float = 0.6


@dataclass(frozen=True)
class Speed:
    """Of one process: FLOPs a second of matrix products, and bytes a second read from memory."""

    flops: float
    bandwidth: float
    source: str

    def reached(self, utilization: Utilization) -> Speed:
        """What of it is reached."""
        return Speed(self.flops * utilization.operations, self.bandwidth * utilization.memory, self.source)


@dataclass(frozen=True)
class Device:
    """What a process computes on; ``memory`` in bytes is None for a CPU.

    ``sheet`` are the numbers of a known GPU or given ones, ``here`` whether it can be measured.
    """

    name: str
    memory: int | None
    sheet: DataSheet | None = None
    here: bool = False

    @property
    def kind(self) -> str:
        return "cpu" if self.memory is None else "cuda"


def find_device(described: str | None) -> Device:
    """The device here, or a GPU that is not here.

    Args:
        described: a name in `DATA_SHEETS`, the GPU's memory in GB, or ``GB,TFLOP/s,GB/s``; None: the device here.

    Raises:
        ConfigError: none of these.
    """
    if described is None:
        import torch

        if not torch.cuda.is_available():
            return Device("CPU, found here", None, here=True)
        found = torch.cuda.get_device_properties(0)
        return Device(f"{found.name}, found here", int(found.total_memory), data_sheet(found.name), here=True)
    name = described.lower()
    if name in DATA_SHEETS:
        sheet = DATA_SHEETS[name]
        return Device(f"{sheet.words}, {sheet.memory:g} GB, not here", int(sheet.memory * 10**9), sheet)
    numbers = _numbers(name)
    if len(numbers) not in (1, 3) or not all(0 < number < 100_000 for number in numbers) or numbers[0] >= 10_000:
        raise ConfigError(
            f"--gpu: found {described!r}, allowed: {', '.join(DATA_SHEETS)}, the GB of a GPU, such as 80, or its GB, "
            "TFLOP/s and GB/s, such as 80,989,3350"
        )
    given = DataSheet("", numbers[0], numbers[1], numbers[1], numbers[2], "as given") if len(numbers) == 3 else None
    return Device(f"GPU of {numbers[0]:g} GB, not here", int(numbers[0] * 10**9), given)


def find_utilization(described: str | None) -> Utilization:
    """``OPERATIONS,MEMORY`` as shares; None: the defaults.

    Raises:
        ConfigError: anything else.
    """
    if described is None:
        return Utilization()
    shares = _numbers(described)
    if len(shares) != 2 or not all(0 < share <= 1 for share in shares):
        default = Utilization()
        raise ConfigError(
            f"--utilization: found {described!r}, allowed: two shares above 0 and at most 1, of operations and of "
            f"memory, such as {default.operations:g},{default.memory:g}"
        )
    return Utilization(*shares)


def speed_of(device: Device, dtype: str, *, threads: int | None = None) -> Speed | None:
    """How fast ``device`` multiplies matrices of ``dtype`` at most, and reads its memory; None where it is not known.

    Args:
        threads: with which one process computes on a CPU; None: as many as torch takes.
    """
    if device.sheet is not None:
        tera = device.sheet.float32 if dtype == "float32" else device.sheet.bfloat16
        return Speed(tera * 1e12, device.sheet.bandwidth * 1e9, device.sheet.source)
    return measured_speed(device.kind, dtype, threads) if device.here else None


@functools.cache
def measured_speed(kind: str, dtype: str, threads: int | None) -> Speed:
    """The speed of this machine's ``kind`` of device: the best of a few products and reads, in a fraction of a second.

    A product of two square matrices, and one of a matrix larger than caches with a vector, which reads it once.
    """
    import torch

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads or before)
        options = {"device": kind, "dtype": getattr(torch, dtype)}
        square = torch.ones(_PRODUCT, _PRODUCT, **options)
        wide, vector = torch.ones(*_READ, **options), torch.ones(_READ[1], **options)
        product = _best_seconds(lambda: square @ square, kind)
        read = _best_seconds(lambda: wide @ vector, kind)
        read_bytes = wide.numel() * wide.element_size()
    finally:
        torch.set_num_threads(before)
    return Speed(2 * _PRODUCT**3 / product, read_bytes / read, "measured here")


def _best_seconds(compute: Callable[[], object], kind: str) -> float:
    import torch

    best = float("inf")
    for _ in range(_REPEATS):
        started = time.perf_counter()
        compute()
        if kind == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - started)
        if best > _ENOUGH_SECONDS:
            break
    return best


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.removesuffix("gb").split(",")]
    except ValueError:
        return []
