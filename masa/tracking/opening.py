"""A run directory while its run is at work: made or continued, and cleared away where nothing came of the run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from rich.console import Console

from masa.config import Config, dump_config
from masa.tracking.in_use import made_and_in_use
from masa.tracking.resuming import refuse_another_run, refuse_fewer_steps
from masa.tracking.run_directory import RunDirectory


@dataclass
class OpenDirectory:
    """A run directory; ``earlier`` is the configuration of the run that is resumed, None where there is none."""

    directory: RunDirectory
    earlier: Config | None = None


@contextmanager
def open_directory(
    config: Config,
    directory: RunDirectory,
    steps: int,
    *,
    training_problems: int,
    notes: Sequence[str],
    console: Console,
    resume: bool,
) -> Iterator[OpenDirectory]:
    """Make the directory, or check that the run in it can be continued; for the first process of a run.

    A new run that fails before its first row leaves no directory, so that it can be started again.

    Raises:
        RunExistsError: it holds a run and ``resume`` is false.
        RunInUseError: another process is at work in it.
        RunFolderError: it cannot be made.
        ConfigError: the run in it had another configuration, or has more steps than are asked for.
    """
    opened = OpenDirectory(directory)

    def say(line: str) -> None:
        console.print(line, highlight=False, markup=False, soft_wrap=True)

    def make() -> bool:
        if directory.check(resume=resume) and directory.config.exists():
            opened.earlier = refuse_another_run(directory, config, say)
            refuse_fewer_steps(directory, steps)
        return directory.create(dump_config(config), resume=resume)

    with ExitStack() as stack:
        continued = stack.enter_context(made_and_in_use(directory.path, make))
        try:
            directory.write_environment({"training_problems": training_problems})
            for note in notes:
                say(note)
            yield opened
        except BaseException:
            stack.close()
            if not continued and not directory.metrics.exists():
                directory.forget()
            raise
