"""What the makers' data sheets say of GPUs: memory, dense floating-point operations a second, bandwidth of the memory.

This module imports nothing of the project, so that what measures a machine can read it without the project's packages.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class DataSheet:
    """One GPU. ``float32`` is without tensor cores, as torch multiplies by default.

    Args:
        words: all of them stand in the name that the driver gives the GPU.
        memory: GB, of 10^9 bytes.
        bfloat16: TFLOP/s of matrix products, without sparsity.
        float32: TFLOP/s.
        bandwidth: GB/s.
        source: the data sheet.
    """

    words: str
    memory: float
    bfloat16: float
    float32: float
    bandwidth: float
    source: str


# By the name that `--gpu` takes; of two whose words both fit, the more specific stands first.
DATA_SHEETS = {
    "gb200": DataSheet("GB200", 186, 2500, 80, 8000, "NVIDIA GB200 NVL72 data sheet"),
    "b200": DataSheet("B200", 180, 2250, 75, 7700, "NVIDIA HGX B200 data sheet"),
    "h200": DataSheet("H200", 141, 989.4, 67, 4800, "NVIDIA H200 data sheet, SXM"),
    "gh200": DataSheet("GH200", 96, 989.4, 67, 4000, "NVIDIA GH200 data sheet, HBM3"),
    "h100-pcie": DataSheet("H100 PCIe", 80, 756, 51, 2000, "NVIDIA H100 data sheet, PCIe"),
    "h100-nvl": DataSheet("H100 NVL", 94, 835, 60, 3900, "NVIDIA H100 data sheet, NVL"),
    "h100": DataSheet("H100", 80, 989.4, 67, 3350, "NVIDIA H100 data sheet, SXM"),
    "h20": DataSheet("H20", 96, 148, 44, 4000, "NVIDIA H20 data sheet"),
    "a100-40gb": DataSheet("A100 40GB", 40, 312, 19.5, 1555, "NVIDIA A100 data sheet, 40 GB"),
    "a100": DataSheet("A100", 80, 312, 19.5, 2039, "NVIDIA A100 data sheet, 80 GB SXM"),
    "a800": DataSheet("A800", 80, 312, 19.5, 2039, "NVIDIA A800 data sheet, 80 GB SXM"),
    "l40s": DataSheet("L40S", 48, 362, 91.6, 864, "NVIDIA L40S data sheet"),
    "l4": DataSheet("L4", 24, 121, 30.3, 300, "NVIDIA L4 data sheet"),
    "a40": DataSheet("A40", 48, 149.7, 37.4, 696, "NVIDIA A40 data sheet"),
    "a10g": DataSheet("A10G", 24, 70, 35, 600, "NVIDIA A10G, Amazon EC2 G5 data sheet"),
    "a10": DataSheet("A10", 24, 125, 31.2, 600, "NVIDIA A10 data sheet"),
    "4090": DataSheet("RTX 4090", 24, 165.2, 82.6, 1008, "NVIDIA Ada architecture paper, RTX 4090"),
    "3090": DataSheet("RTX 3090", 24, 71, 35.6, 936, "NVIDIA Ampere GA102 architecture paper, RTX 3090"),
}


def data_sheet(device: str) -> DataSheet | None:
    """That of a device by the name that its driver gives it; None where it is not known."""
    # As whole words: an "L4" is no "L40".
    words = set(device.replace("-", " ").split())
    return next((sheet for sheet in DATA_SHEETS.values() if words.issuperset(sheet.words.split())), None)
