"""The README's picture, from what `disca lab show` wrote.

`python benchmarks/picture.py quickstart docs/images/lab.webp`
"""

from __future__ import annotations

import argparse
from itertools import groupby
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from disca.files import atomic
from disca.records import Record, read
from disca.report.clips import Clip, Frames, enlarge, read_images, read_index, reduce

SHOWN = {
    "base_50": "base, 50 steps",
    "student_8": "student, 8 steps",
    "disca_8_4": "DisCa, 4 of 8 full",
    "reuse_8_4": "reuse, 4 of 8 full",
    "taylor_8_4": "Taylor, 4 of 8 full",
}
SCALE, GAP, HEAD, ROWS = 4, 12, 58, 4
INK, PAPER = (225, 228, 233), (22, 24, 28)


def heading(record: Record) -> str:
    """Speed-up and closeness of a row, in a few words."""
    lines = [
        SHOWN[record.name],
        f"{record.speedup:.1f}x faster" if record.name != "base_50" else "the reference of speed",
    ]
    if record.psnr is not None and record.name not in ("base_50", "student_8"):
        lines.append(f"{record.psnr:.1f} dB to the student")
    return "\n".join(lines)


def picture(records: list[Record], clips: list[Clip]) -> list[Image.Image]:
    """One image a frame: a column a method, a row a prompt."""
    rows = [{clip.name: clip for clip in row} for _, row in groupby(clips, key=lambda clip: (clip.prompt, clip.seed))]
    cells = [[frames(row[name].path) for name in SHOWN] for row in rows[:ROWS]]
    count, height, width = cells[0][0].shape[:3]
    size = (len(SHOWN) * (width + GAP) + GAP, HEAD + ROWS * (height + GAP))
    by_name = {record.name: record for record in records}
    images = []
    for index in range(count):
        image = Image.new("RGB", size, PAPER)
        draw = ImageDraw.Draw(image)
        for column, name in enumerate(SHOWN):
            left = GAP + column * (width + GAP)
            draw.multiline_text((left, 8), heading(by_name[name]), INK, ImageFont.load_default(12), spacing=3)
            for row, cell in enumerate(cells):
                image.paste(Image.fromarray(cell[column][index]), (left, HEAD + row * (height + GAP)))
        images.append(image)
    return images


def frames(path: Path) -> Frames:
    """A clip at the picture's scale."""
    return np.ascontiguousarray(enlarge(reduce(read_images(path)[0]), SCALE))


def main() -> None:
    """Write the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("output", type=Path)
    asked = parser.parse_args()
    images = picture(read(asked.folder / "records.jsonl"), read_index(asked.folder))
    asked.output.parent.mkdir(parents=True, exist_ok=True)
    with atomic(asked.output) as draft:
        images[0].save(
            draft, save_all=True, append_images=images[1:], duration=125, loop=0, lossless=True, format="webp"
        )


if __name__ == "__main__":
    main()
