"""`disca demo`: a page to try it on."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional, arg

from disca.cli.printing import Printing, say


@dataclass(frozen=True, kw_only=True)
class Demo:
    """Open a page that samples a prompt twice, with every step in full and accelerated, and plays both side by side.

    disca demo

    disca demo lab-base --records benchmarks/records/lab_base.jsonl

    disca demo path/to/pipeline --size 832x480x33 --dtype bfloat16 --records runs/b/records.jsonl

    disca demo path/to/pipeline --bundle path/to/bundle --port 8000

    disca demo lab-student --constants teacache.json magcache.json

    It is served to this machine only, and samples nothing but the models that are named here. Ctrl-C stops it.
    """

    model: Annotated[Positional[tuple[str, ...]], arg(metavar="MODEL")] = ("lab",)
    """lab (all of its stages), lab-student, lab-distilled, lab-base, or folders with pipelines of diffusers."""
    bundle: Annotated[tuple[Path, ...], arg(metavar="FOLDER [FOLDER ...]")] = ()
    """Bundles, each of which is offered with the models that it fits."""
    records: Annotated[tuple[Path, ...], arg(metavar="FILE [FILE ...]")] = ()
    """Records to draw speed against closeness from; some of the lab's when left out."""
    constants: Annotated[tuple[Path, ...], arg(metavar="FILE [FILE ...]")] = ()
    """Files of `disca calibrate` to choose from, for teacache and magcache."""
    output: Path = Path("demo")
    """Folder that the clips of the last runs are kept in."""
    port: int | None = None
    """Where it is served on 127.0.0.1; by default the first free one from 7860 on, with 0 any."""
    browser: bool = False
    """Open the page in a browser, too."""
    size: str | None = None
    """Clips of pipelines in folders, as WIDTHxHEIGHTxFRAMES in pixels; the pipeline's own choice when left out."""
    guidance_scale: float | None = None
    """Given to pipelines in folders; their own choice when left out."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """What pipelines in folders are loaded in."""
    fps: float = 8
    """Frames per second of the clips."""
    printing: Printing = Printing()


def demo(options: Demo) -> None:
    """Serve the page until it is interrupted. For scripts, its address comes at once and not at the end.

    Raises:
        ValueError, OSError: a model, bundle or file that is none, or a port in use, before anything is served.
    """
    from threading import Event

    from disca.demo.loopback import free_port, keep_quiet

    free_port(options.port)
    keep_quiet(options.output)
    from disca.demo.serve import serve

    page, address = serve(studio(options), port=options.port, browser=options.browser)
    say(f"The page is at {address}  Ctrl-C stops it.")
    if options.printing.json:
        print(json.dumps({"address": address}), flush=True)  # now, since it ends only when it is interrupted
    try:
        Event().wait()
    except KeyboardInterrupt:
        say("Stopped.")
    finally:
        page.close(verbose=False)


def studio(options: Demo) -> Any:
    """What the page works with."""
    from disca.demo.curve import read
    from disca.demo.studio import Studio
    from disca.demo.subjects import Calling, Shelf, subjects
    from disca.files import check_writable

    if not 0 < options.fps <= 120:
        raise ValueError(f"--fps is above 0 and at most 120, not {options.fps:g}.")
    records, constants = read(options.records), _constants(options.constants)
    calling = Calling(dtype=options.dtype, call=_call(options))
    shelf = Shelf(subjects(options.model or ("lab",), options.bundle, calling))
    return Studio(shelf=shelf, records=records, output=check_writable(options.output), files=constants, fps=options.fps)


def _call(options: Demo) -> dict[str, Any]:
    from disca.cli.encode import parse_size

    call = {} if options.guidance_scale is None else {"guidance_scale": options.guidance_scale}
    if options.size is None:
        return call
    width, height, frames = parse_size(options.size)
    return {**call, "width": width, "height": height, "num_frames": frames}


def _constants(paths: tuple[Path, ...]) -> dict[str, Path]:
    """Files by the names that the page shows."""
    missing = [str(path) for path in paths if not path.is_file()]
    if missing:
        raise ValueError(f"There is no file {', '.join(missing)}. disca calibrate writes them.")
    return {path.name: path.resolve() for path in paths}
