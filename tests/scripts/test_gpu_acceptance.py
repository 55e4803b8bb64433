"""`scripts/gpu_acceptance.py`: every part has a result, however it ends, and the whole is over in time."""

import json
import sys
from pathlib import Path
from typing import Any

import gpu_acceptance
import psutil
import pytest
from acceptance import session
from acceptance.catalogue import PARTS, ArgumentError, Part, select
from acceptance.machine import peak_flops
from acceptance.report import as_json, as_table
from acceptance.runner import Result
from acceptance.session import Acceptance

HERE = Path(__file__).parent
KEYS = {"name", "what", "status", "seconds", "reason", "figures", "log"}


def _trial(name: str, limit: float = 60.0, **needs: Any) -> Part:
    return Part(name, f"what {name} does", f"trial_parts:{name}", 0.0, limit, **{"packages": (), **needs})


@pytest.fixture
def acceptance_of(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """The results of an acceptance of trial parts, without the look at the machine."""
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    monkeypatch.setenv("TRIAL_PID_FILE", str(tmp_path / "pid"))
    machine = Part("machine", "", "acceptance.machine:describe", 0, 60, ())

    def run(*parts: Part, seconds: float = 120.0) -> list[Result]:
        acceptance = Acceptance(parts, seconds=seconds, on_cpu=True)
        acceptance.machine = {"gpus": 0, "device": "CPU", "versions": {}}
        described = Result("machine", "passed", figures=acceptance.machine)
        original = acceptance._run
        monkeypatch.setattr(
            acceptance, "_run", lambda part, *rest: described if part.name == machine.name else original(part, *rest)
        )
        *_, results = acceptance.run()
        return results[1:]

    return run


def test_a_part_passes_whatever_it_prints_and_sees_masa_from_this_checkout_and_no_hub(acceptance_of: Any) -> None:
    [result] = acceptance_of(_trial("passes"))
    assert (result.status, result.reason) == ("passed", "")
    assert result.figures["size"] == "cpu"
    assert result.figures["number"] == 1.5
    assert result.figures["offline"] == "1"
    assert result.figures["path"].split(":")[0] == str(session.ROOT)
    assert "number 1.5" in result.line()


def test_every_way_to_die_has_a_line_and_the_next_part_still_runs(acceptance_of: Any) -> None:
    names = ("raises", "segfaults", "is_killed", "exits", "answers_garbage", "lacks_module", "passes")
    results = {result.name: result for result in acceptance_of(*(_trial(name) for name in names))}
    assert [results[name].status for name in names] == [*["failed"] * 6, "passed"]
    assert results["raises"].reason == "ValueError: the first line"
    assert "in raises" in results["raises"].log
    assert results["segfaults"].reason == "died of SIGSEGV: about to die"
    assert results["is_killed"].reason.startswith("died of SIGKILL (the kernel's, where host memory ran out)")
    assert results["exits"].reason == "ended with exit code 7 and no result: Error: no more"
    assert results["answers_garbage"].reason.startswith("ended with exit code 0 and no result")
    assert "no_such_module" in results["lacks_module"].reason


def test_what_is_missing_is_skipped_by_name(acceptance_of: Any) -> None:
    parts = [
        _trial("cannot"),
        _trial("lacks_package"),
        _trial("passes", packages=("no_such_package", "yaml", "liger_kernel_of_tomorrow")),
        _trial("raises", gpus=1),
        _trial("hangs", gpus=2),
    ]
    results = acceptance_of(*parts)
    assert {result.status for result in results} == {"skipped"}
    assert [result.reason for result in results] == [
        "2 moons needed, found 1",
        "not installed: no_such_package_anywhere",
        "not installed: no_such_package, liger_kernel_of_tomorrow",
        "no GPU",
        "2 GPUs needed, found 0",
    ]


def test_a_part_that_hangs_is_killed_at_its_limit_with_all_that_it_started(acceptance_of: Any, tmp_path: Path) -> None:
    hung, after = acceptance_of(_trial("hangs", limit=4.0), _trial("passes"))
    assert (hung.status, hung.reason) == ("failed", "killed after its limit of 4 s")
    assert 4.0 <= hung.seconds < 14.0
    assert after.status == "passed"
    assert _is_gone(int((tmp_path / "pid").read_text()))


def test_what_a_part_leaves_running_is_killed(acceptance_of: Any, tmp_path: Path) -> None:
    [result] = acceptance_of(_trial("leaves_a_child"))
    assert result.status == "passed"
    assert _is_gone(int((tmp_path / "pid").read_text()))


def test_parts_that_do_not_fit_into_the_minutes_are_not_run(acceptance_of: Any) -> None:
    cut, later = acceptance_of(_trial("hangs"), _trial("passes"), seconds=2.5)
    assert (cut.status, cut.reason) == ("not run", "time: stopped where the total ended")
    assert cut.seconds < 10.0
    assert later.status == "not run"
    assert later.reason.startswith("time: 0 s left of 2")


def _is_gone(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def test_parts_are_chosen_by_name_in_the_order_of_the_catalogue() -> None:
    assert [part.name for part in select("zero2, logprobs")] == ["logprobs", "zero2"]
    assert select(None) == list(PARTS)
    with pytest.raises(ArgumentError, match=r"--parts: found zero4, allowed: logprobs, .*server_nccl"):
        select("zero2,zero4")


@pytest.mark.parametrize(
    "arguments", [["--parts", "zero4"], ["--minutes", "0"], ["--out", "/no/such/folder/out.json"]], ids=str
)
def test_wrong_arguments_end_with_code_2(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert gpu_acceptance.main(["--out", str(tmp_path / "out.json"), *arguments]) == 2
    assert f"{arguments[0]}: found" in capsys.readouterr().err


def test_every_part_of_the_catalogue_names_a_function_that_exists() -> None:
    import importlib

    for part in PARTS:
        module, function = part.run.split(":")
        assert callable(getattr(importlib.import_module(module), function))
        assert part.expected <= part.limit


def test_without_a_gpu_what_needs_one_is_skipped_and_the_rest_is_rehearsed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.json"
    assert gpu_acceptance.main(["--cpu", "--out", str(out), "--parts", "logprobs,update_packed,nccl"]) == 0
    found = json.loads(out.read_text())
    assert set(found) == {"schema", "size", "minutes", "machine", "counts", "parts"}
    assert found["size"] == "cpu"
    assert found["machine"]["versions"]["python"].startswith(f"{sys.version_info[0]}.{sys.version_info[1]}")
    assert found["machine"]["gpus"] == 0
    assert found["counts"] == {"passed": 2, "failed": 0, "skipped": 2, "not run": 0}
    assert all(set(part) == KEYS for part in found["parts"])
    by_name = {part["name"]: part for part in found["parts"]}
    assert list(by_name) == ["machine", "logprobs", "update_packed", "nccl"]
    assert by_name["nccl"]["reason"] == "no GPU"
    assert by_name["logprobs"]["figures"]["share"] < 0.6
    printed = capsys.readouterr().out
    assert "| update_packed | the same, packed, with flash or flex attention | skipped |" in printed
    assert "no figure here is one of a GPU" in printed


def test_a_failed_part_is_named_at_the_end_and_in_the_exit_code(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    monkeypatch.setattr(gpu_acceptance, "select", lambda names: [_trial("raises")])
    assert gpu_acceptance.main(["--cpu", "--out", str(tmp_path / "out.json")]) == 1
    assert "FAILED raises: ValueError: the first line" in capsys.readouterr().out
    assert json.loads((tmp_path / "out.json").read_text())["counts"]["failed"] == 1


def test_a_machine_whose_torch_does_not_work_is_reported_and_its_parts_are_tried_on_the_cpu() -> None:
    acceptance = Acceptance([_trial("passes")], seconds=1.0)
    results = [Result("machine", "failed", 1.0, "RuntimeError: the driver is too old"), Result("passes", "passed")]
    assert as_json(acceptance, results)["size"] == "cpu"
    assert "FAILED machine: RuntimeError: the driver is too old" in as_table(acceptance, results)


@pytest.mark.parametrize(
    ("device", "teraflops"),
    [
        ("NVIDIA H100 80GB HBM3", 989.4),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA H200", 989.4),
        ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA L4", 121),
        ("NVIDIA L40S", 362),
        ("NVIDIA GeForce RTX 4090", 165.2),
    ],
)
def test_what_a_device_can_do_at_most_follows_from_its_name(device: str, teraflops: float) -> None:
    assert peak_flops(device) == teraflops * 1e12


def test_an_unknown_device_has_no_utilisation() -> None:
    assert peak_flops("NVIDIA H1000 of tomorrow") is None


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_all_that_needs_no_gpu_passes_on_the_cpu(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    assert gpu_acceptance.main(["--cpu", "--minutes", "12", "--out", str(out)]) == 0
    parts = {part["name"]: part for part in json.loads(out.read_text())["parts"]}
    for part in PARTS:
        result = parts[part.name]
        # Extras may be absent; what they are is the reason.
        allowed = "skipped" if part.gpus or result["reason"].startswith("not installed: ") else "passed"
        assert result["status"] == allowed, result
