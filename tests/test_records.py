from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from disca import records
from disca.records import Record

finite = st.floats(allow_nan=False, allow_infinity=False)
maybe = st.none() | finite
words = st.text('aß4 "\\\n\r\t\x85\u2028', max_size=6)
pairs = st.tuples(finite, finite).map(lambda pair: (min(pair), max(pair)))


@st.composite
def any_record(draw: st.DrawFn) -> Record:
    steps = draw(st.integers(1, 60))
    numbers = {name: draw(maybe) for name in ("seconds", "speedup", "flops", "psnr", "relative_l2", "frechet")}
    return Record(
        name=draw(words),
        policy=draw(words),
        steps=steps,
        full_steps=tuple(sorted(draw(st.sets(st.integers(0, steps - 1))))),
        transformer_evaluations=draw(st.integers(0, 200)),
        seeds=tuple(draw(st.lists(st.integers(0, 2**40)))),
        prompts=tuple(draw(st.lists(words))),
        intervals=draw(st.dictionaries(st.sampled_from(["psnr", "speedup", "amplitude"]), pairs)),
        extra=draw(st.dictionaries(words, finite | words)),
        **numbers,
    )


def row(**changes: Any) -> Record:
    plain = Record(name="disca_8_4", steps=8, full_steps=(0, 2, 4, 7), transformer_evaluations=4)
    return replace(plain, **changes)


@given(st.lists(any_record(), max_size=4))
def test_what_is_written_is_read_back(tmp_path_factory: pytest.TempPathFactory, rows: list[Record]) -> None:
    path = tmp_path_factory.mktemp("records") / "records.jsonl"
    records.write(path, rows)
    assert records.read(path) == rows


def test_each_line_is_a_flat_strict_object_with_interval_fields(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    records.write(path, [row(psnr=math.inf, relative_l2=0.0), row(psnr=30.5, intervals={"psnr": (30.0, 31.0)})])
    first, second = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    assert first["schema"] == records.SCHEMA
    assert first["psnr"] is None
    assert first["full_steps"] == [0, 2, 4, 7]
    assert second["psnr_interval"] == [30.0, 31.0]
    assert "intervals" not in second
    assert "Infinity" not in path.read_text() and "NaN" not in path.read_text()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seconds": math.nan}, "seconds is a finite number"),
        ({"speedup": math.inf}, "speedup is a finite number"),
        ({"psnr": -math.inf}, "psnr is a finite number"),
        ({"relative_l2": "0.1"}, "relative_l2 is a finite number"),
        ({"steps": True}, "steps is a whole number"),
        ({"steps": 4}, "full_steps must rise from 0 to at most 3"),
        ({"full_steps": (2, 0)}, "full_steps must rise"),
        ({"full_steps": (0, 0)}, "full_steps must rise"),
        ({"full_steps": (0.5,)}, "whole numbers"),
        ({"policy": None}, "policy is text"),
        ({"intervals": {"psnr": (2.0, 1.0)}}, "psnr_interval"),
    ],
)
def test_a_record_that_cannot_be_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        row(**changes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda line: line[:-5], "line 2: "),
        (lambda line: "[1, 2]", "line 2: A record is a JSON object"),
        (lambda line: line.replace('"psnr": null', '"psnr": NaN'), "line 2: NaN is not JSON"),
        (lambda line: line.replace('"schema": 1', '"schema": 99'), "line 2: .*reads schema 1.*99"),
        (lambda line: line.replace('"speedup"', '"speedupp"'), "line 2: .*'speedupp'. Did you mean 'speedup'"),
        (lambda line: line.replace('"steps": 8, ', ""), "line 2: The record lacks steps"),
        (lambda line: line.replace("[0, 2, 4, 7]", "4"), "line 2: full_steps is a list"),
        (lambda line: line.replace('"steps": 8', '"steps": "8"'), "line 2: .*steps is a whole number"),
    ],
)
def test_a_damaged_line_is_named(tmp_path: Path, change: Any, message: str) -> None:
    path = tmp_path / "records.jsonl"
    records.write(path, [row()])
    line = path.read_text().strip()
    path.write_text(f"{line}\n{change(line)}\n")
    with pytest.raises(ValueError, match=message):
        records.read(path)


def test_a_missing_file_says_who_writes_one(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="disca lab show"):
        records.read(tmp_path / "records.jsonl")


def test_a_failed_write_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    records.write(path, [row()])
    with pytest.raises(ValueError):
        records.write(path, [row(), row(extra={"share": math.nan})])
    assert records.read(path) == [row()]


def test_provenance_is_plain_json() -> None:
    stamped = row(versions=records.versions(), hardware=records.hardware(), date=records.now())
    assert {"python", "torch", "diffusers"} <= set(stamped.versions)
    assert stamped.hardware["cores"] >= 1
    json.dumps(stamped.to_dict(), allow_nan=False)
