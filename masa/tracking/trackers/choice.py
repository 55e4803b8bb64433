"""Which trackers a configuration asks for, and whether they can be had here."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from masa.config import Config, ConfigError
from masa.config.tracking import TrackingSection
from masa.errors import described
from masa.import_paths import import_option

if TYPE_CHECKING:
    from accelerate.tracking import GeneralTracker

# Tracker -> packages of which one is needed.
_PACKAGES = {
    "wandb": ("wandb",),
    "tensorboard": ("tensorboard", "tensorboardX"),
    "trackio": ("trackio",),
    "mlflow": ("mlflow",),
}


def chosen_trackers(section: TrackingSection) -> list[str]:
    """The trackers in their order; ``tracking.wandb.mode`` alone is enough for W&B."""
    found = list(dict.fromkeys(section.trackers))
    if section.wandb.mode in ("offline", "online") and "wandb" not in found:
        found.insert(0, "wandb")
    return found


def require_trackers(config: Config) -> None:
    """Every tracker must be installed; those of the user's own must be importable subclasses of GeneralTracker.

    Raises:
        ConfigError: one is not.
    """
    for name in chosen_trackers(config.tracking):
        if ":" in name:
            own_tracker(name)
        elif not any(map(_is_installed, _PACKAGES[name])):
            package = _PACKAGES[name][0]
            raise ConfigError(
                f"tracking.trackers: {name!r} needs the package {package}, which is not installed here: "
                f"pip install {package}"
            )


def own_tracker(path: str) -> type[GeneralTracker]:
    """The class that ``module:Class`` names.

    Raises:
        ConfigError: it cannot be imported, or is no tracker.
    """
    from accelerate.tracking import GeneralTracker

    kind: Any = import_option("tracking.trackers", path)
    if not (isinstance(kind, type) and issubclass(kind, GeneralTracker)):
        raise ConfigError(
            f"tracking.trackers: {path} is {described(kind)}, allowed: a subclass of accelerate.tracking.GeneralTracker"
        )
    if not hasattr(kind, "requires_logging_directory"):
        raise ConfigError(f"tracking.trackers: the class {path} needs the attribute requires_logging_directory")
    return kind


def _is_installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ValueError:  # a module that was put in place by hand has no spec
        return True
