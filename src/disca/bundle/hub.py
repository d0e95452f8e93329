"""Bundles on the hub: a folder with its card goes up as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from disca.bundle.card import CARD


def upload(folder: str | Path, repository: str, *, private: bool = True, api: Any = None) -> str:
    """Upload a bundle's folder; returns its address.

    Args:
        repository: ``OWNER/NAME``; made where it is missing.
        private: whether it is then private.
        api: a ``huggingface_hub.HfApi``; by default one with the token that you logged in with.

    Raises:
        ValueError: the folder has no card.
        OSError: the hub cannot be reached, or refuses.
    """
    folder = Path(folder)
    if not (folder / CARD).is_file():
        raise ValueError(f"{folder} has no {CARD}. Write it first: disca card {folder}")
    if api is None:
        from huggingface_hub import HfApi

        api = HfApi(library_name="disca")
    url = api.create_repo(repository, private=private, exist_ok=True)
    api.upload_folder(
        repo_id=repository, folder_path=folder, commit_message="A disca bundle", ignore_patterns=[".*", "**/.*"]
    )
    return str(url)
