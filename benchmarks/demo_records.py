"""Which of the committed records come with the package, for the picture of `disca demo`.

python benchmarks/demo_records.py           # write src/disca/demo/records.jsonl
python benchmarks/demo_records.py --check   # fail where it is not what this would write
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCES = ("lab_caches_8.jsonl", "lab_caches_20.jsonl")
TARGET = ROOT / "src" / "disca" / "demo" / "records.jsonl"


def main() -> None:
    lines = "".join((ROOT / "benchmarks" / "records" / name).read_text() for name in SOURCES)
    if "--check" not in sys.argv:
        TARGET.write_text(lines)
    elif TARGET.read_text() != lines:
        raise SystemExit(f"{TARGET.name} is not of {', '.join(SOURCES)}: run python benchmarks/demo_records.py.")


if __name__ == "__main__":
    main()
