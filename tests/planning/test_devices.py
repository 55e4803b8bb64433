"""Devices that are named, given by their numbers, or measured."""

from __future__ import annotations

import time

import pytest
import torch

from masa.config import ConfigError
from masa.planning.data_sheets import DATA_SHEETS, data_sheet
from masa.planning.devices import Device, Speed, Utilization, find_device, find_utilization, measured_speed, speed_of


def test_a_named_gpu_has_the_memory_and_the_speed_of_its_data_sheet() -> None:
    device = find_device("H200")
    assert device.memory == 141 * 10**9
    assert speed_of(device, "bfloat16") == Speed(989.4e12, 4800e9, "NVIDIA H200 data sheet, SXM")
    assert speed_of(device, "float32") == Speed(67e12, 4800e9, "NVIDIA H200 data sheet, SXM")


def test_a_gpu_given_by_numbers_has_these_and_one_given_by_its_memory_no_speed() -> None:
    assert speed_of(find_device("48,300,900"), "bfloat16") == Speed(300e12, 900e9, "as given")
    assert find_device("48GB").memory == 48 * 10**9
    assert speed_of(find_device("48"), "bfloat16") is None


@pytest.mark.parametrize("described", ["h1000", "0", "-1", "80,989", "80,989,0", "80,x,3350", "20000"])
def test_what_names_no_gpu_is_refused_with_what_does(described: str) -> None:
    with pytest.raises(ConfigError, match=r"--gpu: found .* allowed: .*h100.*80,989,3350"):
        find_device(described)


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("NVIDIA A100-SXM4-40GB", "a100-40gb"),
        ("NVIDIA A100 80GB PCIe", "a100"),
        ("NVIDIA H100 NVL", "h100-nvl"),
        ("NVIDIA GH200 480GB", "gh200"),
        ("NVIDIA GeForce RTX 4090", "4090"),
        ("NVIDIA L40S", "l40s"),
    ],
)
def test_a_driver_s_name_leads_to_the_data_sheet_of_that_very_gpu(name: str, key: str) -> None:
    assert data_sheet(name) is DATA_SHEETS[key]


def test_a_device_of_no_known_name_has_no_data_sheet() -> None:
    assert data_sheet("NVIDIA L400") is None


def test_what_is_reached_is_a_share_of_operations_and_one_of_bytes() -> None:
    assert Speed(100.0, 10.0, "").reached(Utilization(0.5, 0.2)) == Speed(50.0, 2.0, "")
    assert find_utilization("0.5,1") == Utilization(0.5, 1.0)
    assert find_utilization(None) == Utilization()


def test_the_speed_of_this_machine_is_that_of_a_product_and_of_a_read() -> None:
    threads = torch.get_num_threads()
    speed = speed_of(Device("CPU", None, here=True), "float32", threads=1)
    assert speed is not None
    assert speed is measured_speed("cpu", "float32", 1)
    assert torch.get_num_threads() == threads
    matrix = torch.ones(1024, 1024)
    started = time.perf_counter()
    for _ in range(3):
        matrix @ matrix
    seconds = (time.perf_counter() - started) / 3
    assert 1 / 20 < speed.flops / (2 * 1024**3 / seconds) < 20
    assert speed.bandwidth > 1e7
