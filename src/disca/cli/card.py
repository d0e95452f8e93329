"""`disca card`: a bundle's model card, before it goes anywhere."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tyro.conf import Positional

from disca.cli.printing import Printing, say


@dataclass(frozen=True, kw_only=True)
class Card:
    """Write a bundle's model card, README.md, from its own records, and show it.

    disca card my-bundle

    disca card my-bundle --records runs/mine/records.jsonl

    disca card my-bundle --push somebody/my-bundle

    Records have to be of this bundle, as from disca bench --bundle my-bundle. They are kept in it, and its card tells
    speed and quality from them; of what nobody measured, it says so.
    """

    bundle: Positional[Path]
    """The bundle, a folder."""
    records: Path | None = None
    """Records of disca bench to keep in the bundle."""
    push: str | None = None
    """Upload the bundle with its card to this repository of the hub, OWNER/NAME; a new one is private."""
    printing: Printing = Printing()


def card(options: Card) -> dict[str, Any]:
    """Write the card; upload where that was asked for.

    Raises:
        ValueError: no bundle, or records that cannot be read.
    """
    from disca.bundle.card import keep_records, write_card

    if options.records is not None:
        keep_records(options.bundle, options.records)
    path = write_card(options.bundle, name=(options.push or "").rpartition("/")[2] or None)
    say(path.read_text(encoding="utf-8"))
    say(f"Wrote {path}")
    result: dict[str, Any] = {"card": str(path)}
    if options.push is not None:
        from disca.bundle.hub import upload

        result["url"] = upload(options.bundle, options.push)
        say(f"Uploaded to {result['url']}")
    return result
