"""Commands that sample a pipeline of one's own take the size of its clips."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from disca.cli import main
from disca.cli.size import sized
from disca.lab.tiny import SIZE, save


def test_a_size_is_what_the_call_is_given(tmp_path: Path) -> None:
    assert sized("832x480x81", str(tmp_path)) == {"width": 832, "height": 480, "num_frames": 81}
    assert sized(None, "lab") == {}
    for size, model, message in (("832x480", str(tmp_path), "WIDTHxHEIGHTxFRAMES"), ("8x8x8", "lab", "of its own")):
        with pytest.raises(ValueError, match=message):
            sized(size, model)


def test_a_threshold_is_measured_at_the_size_that_is_asked_for(tmp_path: Path) -> None:
    """At the stock size this model would not end."""
    model, prompts, output = save(tmp_path / "model"), tmp_path / "prompts.txt", tmp_path / "easycache.json"
    prompts.write_text("a dog runs\n")
    command = ["calibrate", "easycache", "--model", str(model), "--prompts", str(prompts), "--steps", "20"]
    assert main([*command, "--wanted", "12", "--size", SIZE, "--output", str(output)]) == 0
    assert json.loads(output.read_text())["options"]["threshold"] > 0
