"""Law 11: every published method has a citation, a page, a row in the index, and a name on the command line."""

from __future__ import annotations

import re
import shlex
from inspect import Parameter, signature
from pathlib import Path
from typing import Any

import pytest

from disca.bench.calibrate import THRESHOLDS
from disca.caching.gates import Static
from disca.caching.methods import METHODS, Method, from_name
from disca.cli.calibrate import Calibrate
from disca.cli.program import main, parse
from disca.cli.schedule import ScheduleOptions, answer_for
from tests.methods import SOME

PAGES = Path(__file__).parents[1] / "docs" / "methods"
ROW = re.compile(r"^\| \[(\w+)\]\((\w+)\.md\) \|(.*)\|$", re.MULTILINE)


def page(name: str) -> str:
    return (PAGES / f"{name}.md").read_text()


def source(method: Method) -> str:
    """Where a page has to point: the paper, or where there is none the first project of the citation."""
    number = re.search(r"arXiv:(\d{4}\.\d{5})", method.citation)
    return f"https://arxiv.org/abs/{number[1]}" if number else method.citation.split(", ")[1].partition(" and ")[0]


def commands(name: str) -> list[list[str]]:
    """Arguments of the page's command lines."""
    lines = "\n".join(re.findall(r"```bash\n(.*?)```", page(name), re.DOTALL)).splitlines()
    return [shlex.split(line)[1:] for line in lines]


def test_there_is_a_page_for_each_method_and_no_other() -> None:
    assert {path.stem for path in PAGES.glob("*.md")} == {"README", *METHODS}


@pytest.mark.parametrize("name", METHODS)
def test_a_page_points_to_the_source(name: str) -> None:
    assert page(name).startswith(f"# {name}\n")
    citation = page(name).rpartition("**Citation.**")[2]
    assert source(METHODS[name]) in citation


@pytest.mark.parametrize("name", METHODS)
def test_a_page_has_each_option_with_its_default(name: str) -> None:
    """Where the default is None, the page says what that comes to."""
    options = dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", page(name), re.MULTILINE))
    parameters = signature(METHODS[name].function).parameters
    assert sorted(options) == sorted(parameters)
    for option, parameter in parameters.items():
        required = parameter.default is Parameter.empty
        if required or parameter.default is not None:
            assert options[option] == ("required" if required else str(parameter.default)), option


@pytest.mark.parametrize("name", METHODS)
def test_the_example_of_a_page_runs_and_forecasts(name: str) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", page(name), re.DOTALL)
    assert len(example.splitlines()) <= 8
    assert f"disca.{name}(" in example
    scope: dict[str, Any] = {}
    exec(example, scope)
    assert scope["run"].summary().forecasts


@pytest.mark.parametrize("name", METHODS)
def test_the_command_lines_of_a_page_work(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert any(line[:2] == ["schedule", name] for line in commands(name))
    assert any(line[:2] == ["calibrate", name] for line in commands(name)) == (name in THRESHOLDS)
    for line in commands(name):
        options = parse(line)
        if isinstance(options, ScheduleOptions):
            assert main(line) == 0
            assert name in capsys.readouterr().out
        elif isinstance(options, Calibrate):
            assert_within_reach(options)


@pytest.mark.long
@pytest.mark.parametrize("name", [*METHODS, "README"])
def test_every_command_of_a_page_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From an empty folder, calibrations on one prompt instead of eight."""
    monkeypatch.chdir(tmp_path)
    Path("one.txt").write_text("a red seven drifting left\n")
    for line in commands(name):
        few = ["--prompts", "one.txt"] if line[0] == "calibrate" else []
        assert main([*line, *few]) == 0


def assert_within_reach(options: Calibrate) -> None:
    """What a page lets calibrate look for can be had; a table of magnitudes says so only once it is measured."""
    if options.method == "magcache":
        return
    (rule,) = from_name(options.method, **options.given(), threshold=1.0)
    low, high = rule.when.bounds(options.steps)
    assert options.wanted is not None
    assert low <= options.wanted <= high


def test_the_index_has_a_row_for_each_method() -> None:
    rows = {name: (link, cells) for name, link, cells in ROW.findall((PAGES / "README.md").read_text())}
    assert list(rows) == list(METHODS)
    for name, (link, cells) in rows.items():
        assert link == name
        assert source(METHODS[name]) in cells


@pytest.mark.parametrize("name", METHODS)
def test_the_index_knows_which_schedules_are_known_beforehand(name: str) -> None:
    rows = {name: cells.split(" | ") for name, _, cells in ROW.findall((PAGES / "README.md").read_text())}
    extras = {"predictor": None} if "predictor" in METHODS[name].options else {}
    known = all(isinstance(rule.when, Static) for rule in from_name(name, **SOME[name], **extras))
    said = rows[name][4]
    assert said == ("yes" if known else "no") or (name == "rfc" and said == "with `every`")
    if known:
        answer = answer_for(ScheduleOptions(method=name, steps=12, **cli(SOME[name])))
        assert answer["full_steps"][0] == 0
        assert answer["bounds"] == [len(answer["full_steps"])] * 2


def cli(options: dict[str, Any]) -> dict[str, Any]:
    """Options as the command line has them: constants are a name or a file there."""
    return {name: "hunyuan_video_720p" if name == "constants" else value for name, value in options.items()}
