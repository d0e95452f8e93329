"""Modules that are made for one host and stored beside it, as components of its pipeline: predictor, second time."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, Self

from diffusers import ConfigMixin, ModelMixin
from safetensors import SafetensorError
from torch import nn

from disca.adapters import adapter_for
from disca.files import check_writable

_WHERE = ("subfolder", "revision", "cache_dir", "force_download", "local_files_only", "proxies", "token")


class Companion(ModelMixin, ConfigMixin):
    """A module whose configuration names its host: ``host``, the family, and ``host_config``, its configuration."""

    config_name = "config.json"
    kind: ClassVar[str] = "companion"
    """What errors call it."""

    def matches(self, transformer: nn.Module) -> None:
        """Make sure that ``transformer`` is the host this was made for, or one of the same configuration.

        Raises:
            ValueError: another family, or other dimensions; the message lists what differs.
        """
        check_host(self.config.host, self.config.host_config, transformer, self.kind)

    def save_pretrained(self, save_directory: str | Path, **kwargs: Any) -> None:
        """Write configuration and weights into a folder, each whole or not at all. Options are diffusers'."""
        folder = check_writable(save_directory)
        with TemporaryDirectory(prefix=".draft-", dir=folder) as draft:
            super().save_pretrained(draft, **kwargs)
            written = sorted(Path(draft).iterdir(), key=lambda path: path.name == self.config_name)
            for path in written:  # the configuration last: a folder with one is complete
                path.replace(folder / path.name)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **kwargs: Any) -> Self:
        """Load from a folder or the hub, strictly: every weight must be there, none may be left over.

        Raises:
            ValueError: files that are missing, damaged, or of something else.
        """
        refused = f"{pretrained_model_name_or_path} holds no {cls.kind} that can be loaded"
        kwargs.pop("output_loading_info", None)
        kwargs.setdefault("use_safetensors", True)  # never a pickle, which runs code
        try:
            config = cls.load_config(pretrained_model_name_or_path, **{k: kwargs[k] for k in _WHERE if k in kwargs})
            if config.get("_class_name") != cls.__name__:
                raise ValueError(f"its configuration is of {config.get('_class_name')}, not of {cls.__name__}")
            loaded, found = super().from_pretrained(pretrained_model_name_or_path, output_loading_info=True, **kwargs)
        except (OSError, ValueError, TypeError, KeyError, RuntimeError, SafetensorError) as error:
            raise ValueError(f"{refused}: {error}") from error
        if found["missing_keys"] or found["unexpected_keys"]:
            raise ValueError(
                f"{refused}: missing weights {sorted(found['missing_keys'])}, unknown weights "
                f"{sorted(found['unexpected_keys'])}. The file is damaged or of another version."
            )
        return loaded


def check_host(host: str, config: Mapping[str, Any], transformer: nn.Module, kind: str) -> None:
    """Make sure that ``transformer`` is of the family and the configuration that a ``kind`` of thing was made for.

    Raises:
        ValueError: another family, or other dimensions; the message lists what differs.
    """
    given, made_for = describe_host(transformer), f"This {kind} was made for {host}"
    if given["host"] != host:
        raise ValueError(f"{made_for}, not for {given['host']}. Load or train one for {given['host']}.")
    had = given["host_config"]
    differing = [name for name in config if name not in had or had[name] != config[name]]
    if differing:
        raise ValueError(
            f"{made_for} with {', '.join(f'{name}={config[name]}' for name in differing)}, but the transformer has "
            f"{', '.join(f'{name}={had.get(name)}' for name in differing)}. Load or train one for this transformer."
        )


def describe_host(transformer: nn.Module) -> dict[str, Any]:
    """``host`` and ``host_config`` of a transformer, as they are stored.

    Raises:
        ValueError: nobody described the transformer's family.
    """
    host = adapter_for(transformer).transformer
    stored = json.loads(transformer.to_json_string()) if isinstance(transformer, ConfigMixin) else {}
    return {"host": host, "host_config": {name: value for name, value in stored.items() if not name.startswith("_")}}
