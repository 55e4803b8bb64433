"""The command `masa`, and what an installation gives."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from masa import cli

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_each_subcommand_shows_the_help_of_its_module(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main([name, "--help"])
    assert ended.value.code == 0
    assert f"masa.{name.replace('-', '_')}" in capsys.readouterr().out


def test_a_subcommand_hands_over_its_arguments_and_its_exit_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["report", str(tmp_path / "nothing")]) == importlib.import_module("masa.report").EXIT_BAD_INPUT
    assert str(tmp_path / "nothing") in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["trian"]])
def test_an_unknown_or_missing_command_is_refused_with_those_that_exist(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(arguments) == cli.EXIT_BAD_INPUT
    error = capsys.readouterr().err
    assert all(name in error for name in cli.COMMANDS)


def test_masa_is_imported_in_the_folder_above_a_clone(tmp_path: Path) -> None:
    (tmp_path / "masa").symlink_to(ROOT)
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    code = "import masa, masa.cli; from masa import load_config; print(masa.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("masa/__init__.py")


def test_the_installed_command_finds_modules_of_the_current_folder(tmp_path: Path) -> None:
    (tmp_path / "own_module.py").write_text("class Own:\n    def on_step_end(self, run):\n        run.stop('enough')\n")
    # Python puts no current folder on the path of an installed script; -P leaves it away here, too.
    script = "import sys; from masa.cli import main; sys.argv[0] = 'masa'; sys.exit(main())"
    options = ["--config", str(ROOT / "configs" / "quickstart.yaml"), "run.callbacks=['own_module:Own']", "--dry-run"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-P", "-c", script, "train", *options],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
