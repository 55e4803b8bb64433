"""Which folder a run gets: ``run.dir``, whose ``{name}``, ``{date}`` and ``{number}`` are filled in."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator
from datetime import date
from pathlib import Path

from masa.config import Config
from masa.tracking.run_directory import RunDirectory

_PATTERNS = {"date": r"(?P<date>\d{4}-\d\d-\d\d)", "number": r"(?P<number>\d+)"}


def planned_folder(config: Config) -> Path:
    """The folder that a new run would get now; nothing is made."""
    return next(_fresh_folders(config))


def fresh_directory(config: Config) -> RunDirectory:
    """The directory of a new run. One with a ``{number}`` is made at once, so that no other run takes it.

    Raises:
        RunFolderError: it cannot be made.
    """
    for folder in _fresh_folders(config):
        if "{number}" not in config.run.dir:
            break
        try:
            return RunDirectory.claim(folder)
        except FileExistsError:
            continue  # another run was quicker
    return RunDirectory(folder)


def directory_to_resume(config: Config) -> RunDirectory:
    """The directory of the newest run that ``run.dir`` may stand for (latest date, highest number), or else a new one.

    Raises:
        RunFolderError: a new one cannot be made.
    """
    found = [(dated, number, path) for path, dated, number in _matching(config) if RunDirectory(path).holds_run()]
    return RunDirectory(max(found)[2]) if found else fresh_directory(config)


def _fresh_folders(config: Config) -> Iterator[Path]:
    today = date.today().isoformat()
    template = config.run.dir.replace("{name}", _name(config)).replace("{date}", today)
    highest = max((number for _, dated, number in _matching(config) if dated in ("", today)), default=0)
    number = highest + 1
    while True:
        yield Path(template.replace("{number}", str(number)))
        number += 1


def _matching(config: Config) -> list[tuple[Path, str, int]]:
    """Folders that ``run.dir`` may stand for, each with its date and number; "" and 0 where it has none."""
    template = config.run.dir.replace("{name}", _name(config))
    parts = re.split(r"(\{date\}|\{number\})", template)
    pattern = "".join(_PATTERNS[part[1:-1]] if part in ("{date}", "{number}") else re.escape(part) for part in parts)
    # A placeholder that stands twice is the same both times.
    for name, group in _PATTERNS.items():
        first, *others = pattern.split(group)
        pattern = first + "".join((group if place == 0 else f"(?P={name})") + rest for place, rest in enumerate(others))
    wildcard = "".join("*" if part in ("{date}", "{number}") else glob.escape(part) for part in parts)
    found = []
    for path in glob.glob(wildcard):
        matched = re.fullmatch(pattern, path)
        if matched:
            groups = matched.groupdict()
            found.append((Path(path), groups.get("date") or "", int(groups.get("number") or 0)))
    return found


def _name(config: Config) -> str:
    """``run.name``, or the method's, as it may stand in a path."""
    name = config.run.name or ("masa" if config.algorithm.meta else config.algorithm.name)
    return re.sub(r"[^\w.+=-]+", "-", name).strip("-.") or "run"
