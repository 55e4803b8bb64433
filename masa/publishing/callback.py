"""Uploads while a run is at work, and at its end; none of them ends a run."""

from __future__ import annotations

import shlex
import threading
from collections.abc import Callable

from masa.callbacks import Callback
from masa.errors import brief
from masa.publishing.publish import Publication, prepare_publication, remove_leftovers
from masa.publishing.upload import missing_for_upload
from masa.run_state import RunState


class HubUploads(Callback):
    """Uploads checkpoints as ``hub`` asks for; one at a time in the background, and the last one at the end of the run.

    Where the hub cannot be reached, or there is no token, a line says so, and with which command to upload later.
    """

    def __init__(self, missing: Callable[[], str | None] = missing_for_upload) -> None:
        self._missing = missing
        self._said = ""
        self._thread: threading.Thread | None = None
        self._lines: list[str] = []

    def on_run_begin(self, run: RunState) -> None:
        remove_leftovers(run.directory)
        if missing := self._missing():
            self._tell_once(run, missing)

    def on_checkpoint(self, run: RunState) -> None:
        self._speak(run)
        if run.config.hub.when != "checkpoints" or run.step == run.total_steps:
            return  # the end of the run uploads the last one, with all that is known then
        if self._thread is not None and self._thread.is_alive():
            run.message(f"hub: the checkpoint of step {run.step} is not uploaded: the previous upload is still running")
            return
        publication = self._prepared(run)
        if publication is not None:
            self._thread = threading.Thread(
                target=lambda: self._lines.append(_upload(run, publication)), name="masa-hub", daemon=True
            )
            self._thread.start()

    def on_log(self, run: RunState) -> None:
        self._speak(run)

    def on_run_end(self, run: RunState) -> None:
        if run.summary is None:
            self._speak(run)
            return  # interrupted or failed: who resumes the run uploads what comes of it
        if self._thread is not None:
            self._thread.join()
        self._speak(run)
        self._said = ""  # said again where the run is read last
        publication = self._prepared(run)
        if publication is not None:
            run.message(f"hub: uploading the policy after step {publication.step} to {run.config.hub.repo}")
            run.message(_upload(run, publication))

    def _prepared(self, run: RunState) -> Publication | None:
        """What is uploaded; None where that cannot be, which has been said."""
        if missing := self._missing():
            self._tell_once(run, missing)
            return None
        assert run.config.hub.repo is not None
        try:
            return prepare_publication(run.directory, run.config.hub.repo)
        except Exception as error:
            run.message(_not_uploaded(run, brief(error)))
            return None

    def _tell_once(self, run: RunState, missing: str) -> None:
        if missing != self._said:
            run.message(_not_uploaded(run, missing))
        self._said = missing

    def _speak(self, run: RunState) -> None:
        """What the thread had to say, from the thread that shows."""
        while self._lines:
            run.message(self._lines.pop(0))


def _upload(run: RunState, publication: Publication) -> str:
    """Upload and remove the folder; the line that says what came of it."""
    hub = run.config.hub
    assert hub.repo is not None
    try:
        return f"hub: step {publication.step} is at {publication.upload(hub.repo, private=hub.private)}"
    except Exception as error:
        return _not_uploaded(run, str(error))
    finally:
        publication.discard()


def _not_uploaded(run: RunState, why: str) -> str:
    hub = run.config.hub
    public = "" if hub.private else " --public"
    command = f"masa push {shlex.quote(str(run.directory.path))} --repo {hub.repo}{public}"
    return f"hub: nothing is uploaded: {why}. The run continues; to upload its newest checkpoint later: {command}"
