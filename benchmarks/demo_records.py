"""Which of the committed records come with the package, for the picture of `disca demo`.

    python benchmarks/demo_records.py           # write src/disca/demo/records.jsonl
    python benchmarks/demo_records.py --check   # fail where it is not what this would write

Full runs, caches, and plain steps by Euler, without the list of prompts, which is most of a record.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from disca import records
from disca.records import Record

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "benchmarks" / "records" / "lab_bench.jsonl"
TARGET = ROOT / "src" / "disca" / "demo" / "records.jsonl"


def chosen() -> list[Record]:
    rows = records.read(SOURCE)
    rows = [row for row in rows if row.extra["kind"] != "peer" and row.extra["solver"] == "euler"]
    return [replace(row, prompts=()) for row in rows]


def main() -> None:
    with TemporaryDirectory() as folder:
        draft = Path(folder) / TARGET.name
        records.write(draft, chosen())
        if "--check" not in sys.argv:
            TARGET.write_bytes(draft.read_bytes())
        elif TARGET.read_bytes() != draft.read_bytes():
            raise SystemExit(f"{TARGET.name} is not of {SOURCE.name}: run python benchmarks/demo_records.py.")


if __name__ == "__main__":
    main()
