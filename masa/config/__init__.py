"""The typed configuration of a run: what may be said (schema) and how it is read, overridden and explained (load)."""

from masa.config.load import ConfigError, config_from_mapping, differing_keys, dump_config, load_config
from masa.config.schema import Config

__all__ = ["Config", "ConfigError", "config_from_mapping", "differing_keys", "dump_config", "load_config"]
