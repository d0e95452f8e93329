from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from disca import records, trajectories
from disca.cli import main
from disca.cli.completion import SHELLS
from disca.cli.printing import Printing, say
from disca.cli.program import VERBS, parse
from disca.cli.sample import Sample
from disca.cli.train import Train
from disca.errors import FailedError
from disca.records import Record
from disca.report.clips import Clip, write_clip, write_index


@pytest.mark.parametrize("verb", [[], *([verb] for verb in VERBS), ["lab", "show"]])
def test_help_works_and_shows_an_example(verb: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([*verb, "--help"])
    assert stop.value.code == 0
    assert f"disca {verb[0] if verb else 'sample'} " in capsys.readouterr().out


@pytest.mark.parametrize("args", [["smple"], ["schedule", "taylor"], ["lab", "show", "--prompts", "many"]])
def test_a_wrong_command_line_exits_with_2(args: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(args)
    assert stop.value.code == 2
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err + captured.out


def test_options_arrive_as_they_were_given() -> None:
    args = ["sample", "a blue three bouncing up", "--full-steps", "0", "2", "4", "7", "--guidance-scale", "3"]
    assert parse(args) == Sample(prompt="a blue three bouncing up", full_steps=(0, 2, 4, 7), guidance_scale=3.0)
    train = parse(["train", "r.toml", "--set", "a=1", "b=2", "--set", "c=3", "--resume"])
    assert train == Train(recipe=Path("r.toml"), changes=(("a=1", "b=2"), ("c=3",)), resume=True)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["schedule", "taylr", "--steps", "8", "--every", "2"], "Did you mean 'taylor'?"),
        (["schedule", "reuse", "--steps", "8", "--every", "2", "--order", "1"], "option of reuse 'order'"),
        (["schedule", "reuse", "--steps", "4", "--full-steps", "0", "7"], "Full step 7"),
        (["schedule", "reuse", "--steps", "0", "--every", "2"], "--steps"),
        (["report", "missing.jsonl"], "missing.jsonl"),
        (["bench", "--suite", "real-size", "--output", "out"], "needs a GPU"),
        (["train", "missing.toml"], "missing.toml"),
        (["sample", "a red one", "--output", "clip.avi"], "clip.avi"),
        (["lab", "show", "--prompts", "0"], "--prompts"),
    ],
)
def test_a_mistake_is_one_line_that_names_it(args: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(args) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("disca: ") and captured.err.count("\n") == 1
    assert words in captured.err


@pytest.mark.parametrize("verb", [["sample", "a red one standing still"], ["lab", "show"]])
def test_a_folder_that_cannot_be_written_is_refused_before_work(
    verb: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "taken").write_text("a file")
    assert main([*verb, "--output", str(tmp_path / "taken" / "clip.gif")]) == 1
    assert "Cannot write into the folder" in capsys.readouterr().err


def test_debug_shows_where_an_error_arose(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileNotFoundError):
        main(["report", "missing.jsonl", "--debug"])
    monkeypatch.setenv("DISCA_DEBUG", "1")
    with pytest.raises(FileNotFoundError):
        main(["report", "missing.jsonl"])


@dataclass(frozen=True, kw_only=True)
class Wait:
    """Wait for somebody to interrupt."""


def test_a_verb_joins_by_being_listed_and_an_interruption_exits_with_130(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def wait(options: Wait) -> None:
        raise KeyboardInterrupt

    monkeypatch.setitem(VERBS, "wait", (Wait, wait))
    assert main(["wait"]) == 130
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ValueError("input"), 2),
        (FileNotFoundError("input"), 2),
        (OSError(28, "No space left on device"), 1),
        (FailedError("the work"), 1),
    ],
)
def test_exit_codes_tell_wrong_input_from_work_that_failed(
    error: Exception, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def wait(options: Wait) -> None:
        raise error

    monkeypatch.setitem(VERBS, "wait", (Wait, wait))
    assert main(["wait"]) == code
    assert capsys.readouterr().err == f"disca: {error}\n"


@dataclass(frozen=True, kw_only=True)
class Speak:
    """Say something."""

    fails: bool = False
    printing: Printing = Printing()


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize(
    ("flags", "out", "err"),
    [
        ([], "a sentence\n", ""),
        (["--json"], '{"é": 1}\n', "a sentence\n"),
        (["--quiet"], "", ""),
        (["--quiet", "--json"], '{"é": 1}\n', ""),
    ],
)
def test_sentences_are_for_people_and_the_object_for_scripts(
    flags: list[str], out: str, err: str, fails: bool,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    def speak(options: Speak) -> dict[str, int]:
        say("a sentence")
        if options.fails:
            raise FailedError("it failed", {"é": 1})
        return {"é": 1}

    monkeypatch.setitem(VERBS, "speak", (Speak, speak))
    assert main(["speak", *flags, *(["--fails"] if fails else [])]) == fails
    captured = capsys.readouterr()
    assert captured.out == out
    assert captured.err == err + ("disca: it failed\n" if fails else "")


@pytest.mark.parametrize(
    "verb", [*([verb] for verb in VERBS if verb != "lab"), ["lab", "show"], ["lab", "bundle"]], ids=" ".join
)
def test_every_verb_has_both_modes(verb: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([*verb, "--help"])
    said = capsys.readouterr().out
    assert "--quiet" in said and "--json" in said


@pytest.mark.parametrize("shell", SHELLS)
def test_completion_knows_the_verbs_and_their_options(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--completion", shell]) == 0
    script = capsys.readouterr().out
    assert all(verb in script for verb in VERBS) and "--guidance-scale" in script


def test_bash_completes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--completion", "bash"]) == 0
    script = tmp_path / "disca.bash"
    script.write_text(capsys.readouterr().out)

    def completed(*words: str) -> list[str]:
        asked = f"COMP_WORDS=({' '.join(map(repr, words))}); COMP_CWORD={len(words) - 1}"
        lines = f'source {script}; {asked}; _tyro_disca; printf "%s\\n" "${{COMPREPLY[@]}}"'
        return subprocess.run(["bash", "-c", lines], capture_output=True, text=True, check=True).stdout.split()

    assert completed("disca", "sch") == ["schedule"]
    assert completed("disca", "sample", "--full") == ["--full-steps"]
    assert completed("disca", "sample", "--suffix", "g") == ["gif"]


@pytest.mark.parametrize("args", [[], ["tcsh"], ["bash", "zsh"]])
def test_completion_of_another_shell_is_refused(args: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--completion", *args]) == 2
    assert "bash, zsh, fish" in capsys.readouterr().err


def test_our_own_mistakes_are_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def wait(options: Wait) -> None:
        raise KeyError("ours")

    monkeypatch.setitem(VERBS, "wait", (Wait, wait))
    with pytest.raises(KeyError):
        main(["wait"])


@pytest.mark.parametrize(("module", "extra"), [("transformers", "lab"), ("jinja2", "report")])
def test_a_missing_package_names_the_extra_that_brings_it(
    module: str, extra: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def wait(options: Wait) -> None:
        raise ModuleNotFoundError(f"No module named {module!r}", name=module)

    monkeypatch.setitem(VERBS, "wait", (Wait, wait))
    assert main(["wait"]) == 1
    assert f"pip install 'disca[{extra}]'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("args", "full"),
    [
        (["taylor", "--steps", "20", "--every", "4"], [0, 4, 8, 12, 16]),
        (["reuse", "--steps", "50", "--every", "6", "--warmup", "3"], [0, 1, 2, 8, 14, 20, 26, 32, 38, 44]),
        (["disca", "--steps", "8", "--full-steps", "0", "2", "4", "7"], [0, 2, 4, 7]),
        (["repeat_change", "--steps", "5", "--every", "9", "--force-last"], [0, 4]),
    ],
)
def test_schedule_prints_what_a_method_computes_in_full(
    args: list[str], full: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["schedule", *args, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert set(answer) == {"method", "options", "steps", "full_steps", "bounds"}
    assert (answer["method"], answer["steps"]) == (args[0], int(args[2]))
    assert answer["full_steps"] == full
    assert answer["bounds"] == [len(full), len(full)]
    assert main(["schedule", *args]) == 0
    assert " ".join(map(str, full)) in capsys.readouterr().out


def test_report_prints_a_table_and_writes_a_page_with_the_clips_beside(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "records.jsonl"
    records.write(path, [Record(name="base_50", steps=50, full_steps=range(50), transformer_evaluations=100)])
    clip = Clip(prompt="a red seven drifting left", name="base_50", path=tmp_path / "0.webp")
    write_clip(clip.path, np.zeros((2, 8, 8, 3), dtype=np.uint8))
    write_index(tmp_path, [clip])
    assert main(["report", str(path), "--title", "Mine"]) == 0
    assert "base_50" in capsys.readouterr().out
    page = (tmp_path / "index.html").read_text()
    assert "<h1>Mine</h1>" in page and "a red seven drifting left" in page


def test_the_installed_program_starts_and_exits_with_the_codes() -> None:
    command = [
        sys.executable,
        "-c",
        "import sys; from disca.cli import main; sys.exit(main())",
        "report",
        "missing.jsonl",
    ]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 2
    assert "Traceback" not in run.stderr


def test_a_bench_records_where_the_features_of_the_trunk_go(tmp_path: Path) -> None:
    methods = ["--method", "reuse(every=2)", "fora(every=2)"]
    common = ["--model", "lab-student", "--steps", "4", "--pairs", "2", "--output", str(tmp_path), "--quiet"]
    assert main(["bench", *common, *methods, "--trajectories"]) == 0
    (found,) = trajectories.read(tmp_path)
    assert [run.name for run in found.runs] == ["student_4", "reuse_student_4_every2"]
    assert found.runs[1].full == (True, False, True, False)
    assert "Where the features go" in (tmp_path / "index.html").read_text()
