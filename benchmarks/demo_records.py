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
FOLDER = ROOT / "benchmarks" / "records"
TARGET = ROOT / "src" / "disca" / "demo" / "records.jsonl"


def chosen() -> list[Record]:
    """Those of the comparison, but with the predictor that comes with the package now."""
    rows = records.read(FOLDER / "lab_bench.jsonl")
    rows = [row for row in rows if row.extra["kind"] != "peer" and row.extra["solver"] == "euler"]
    rows = [row for row in rows if row.extra.get("method") != "disca"]
    found = [row for steps in (8, 20) for row in records.read(FOLDER / f"lab_caches_{steps}.jsonl")]
    rows += [_named(row) for row in found if row.name.startswith("disca") or row.name.endswith("computed")]
    return [replace(row, prompts=()) for row in rows]


def _named(row: Record) -> Record:
    method, own = row.name.partition("_")[0], row.name.endswith("computed")
    return replace(row, extra={**row.extra, "short": f"{method}, computed list" if own else method})


def main() -> None:
    with TemporaryDirectory() as folder:
        draft = Path(folder) / TARGET.name
        records.write(draft, chosen())
        if "--check" not in sys.argv:
            TARGET.write_bytes(draft.read_bytes())
        elif TARGET.read_bytes() != draft.read_bytes():
            raise SystemExit(f"{TARGET.name} is not of the committed records: run python benchmarks/demo_records.py.")


if __name__ == "__main__":
    main()
