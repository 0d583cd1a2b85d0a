"""Configs and what is built from them. The only place where configs are read."""

from genjax.config.assemble import Mode, build
from genjax.config.defaults import as_dict, as_json, complete, unknown_key
from genjax.config.errors import ConfigError
from genjax.config.pipelines import PipelineConfig, is_pipeline, parallel_of, read_pipeline
from genjax.config.reader import divide_cpu, load_config, own_config, parallel_settings
from genjax.config.recipes import Recipe, Slot

__all__ = [
    "ConfigError",
    "Mode",
    "PipelineConfig",
    "Recipe",
    "Slot",
    "as_dict",
    "as_json",
    "build",
    "complete",
    "divide_cpu",
    "is_pipeline",
    "load_config",
    "own_config",
    "parallel_of",
    "parallel_settings",
    "read_pipeline",
    "unknown_key",
]
