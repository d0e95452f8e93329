"""`disca import`: the authors' published weights, as a bundle."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tyro.conf import Positional

from disca.cli.printing import Printing, say


@dataclass(frozen=True, kw_only=True)
class Import:
    """Make a bundle from weights that the authors of DisCa published.

    disca import official-hyvideo10 --transformer dit.safetensors --predictor predictor.safetensors --output my-bundle

    disca import official-hyvideo15 --predictor predictor.safetensors --output my-bundle
    """

    source: Positional[str]
    """official-hyvideo10 (HunyuanVideo, text to video) or official-hyvideo15 (HunyuanVideo-1.5, image to video)."""
    transformer: Path | None = None
    """The Restricted-MeanFlow transformer, a safetensors file; for 1.5 the pipeline's own is used."""
    predictor: Path | None = None
    """The predictor, a safetensors file."""
    config: Path | None = None
    """A config.json of diffusers' transformer; the published size when left out."""
    output: Path
    """A new folder for the bundle."""
    printing: Printing = Printing()


def import_(options: Import) -> dict[str, Any]:
    """Read, convert, and write a bundle."""
    from disca.bundle.official import official_bundle
    from disca.files import check_writable

    check_writable(options.output.parent)
    bundle = official_bundle(
        options.source, transformer=options.transformer, predictor=options.predictor, config=options.config
    )
    bundle.save_pretrained(options.output)
    say(f"Wrote {options.output}. Licence of the base: {bundle.licence}.")
    return {"output": str(options.output), "licence": bundle.licence}
