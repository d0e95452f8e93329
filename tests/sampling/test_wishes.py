"""Files of prompts, and which process samples what."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from disca.sampling.share import Share
from disca.sampling.wishes import Wish, read


def written(folder: Path, name: str, text: str) -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def test_lines_get_numbers_for_names_and_seeds(tmp_path: Path) -> None:
    found = read(written(tmp_path, "a.txt", "\ufeffa boat\n\n  a 🚂, at night \n"), seed=7)
    assert found == [Wish(name="0000", prompt="a boat", seed=7), Wish(name="0001", prompt="a 🚂, at night", seed=8)]


def test_tables_say_seed_and_name_where_they_want_to(tmp_path: Path) -> None:
    jsonl = '{"prompt": "a boat", "seed": 3, "name": "boat"}\n{"prompt": "a\\u2028train"}\n'
    csv = 'prompt,seed,name,other\na boat,3,boat,x\n"a\u2028train",,,\n'
    wanted = [Wish(name="boat", prompt="a boat", seed=3), Wish(name="0001", prompt="a\u2028train", seed=1)]
    for name, text in (("a.jsonl", jsonl), ("a.csv", csv)):
        assert read(written(tmp_path, name, text)) == wanted


def test_a_prompt_of_several_lines_is_one_cell_of_a_csv(tmp_path: Path) -> None:
    (wish,) = read(written(tmp_path, "a.csv", 'prompt\n"a boat,\nand a train"\n'))
    assert wish.prompt == "a boat,\nand a train"


def test_an_image_lies_beside_the_file(tmp_path: Path) -> None:
    written(tmp_path, "first.png", "")
    path = written(tmp_path, "a.jsonl", '{"prompt": "a boat", "image": "first.png"}')
    assert read(path)[0].image == tmp_path / "first.png"
    with pytest.raises(FileNotFoundError, match=r"line 1: there is no image .*second\.png"):
        read(written(tmp_path, "a.jsonl", '{"prompt": "a boat", "image": "second.png"}'))


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.txt", "\n \n", "no prompts"),
        ("a.xlsx", "x", r"\.txt, \.jsonl or \.csv"),
        ("a.jsonl", '{"prompt": ""}', "line 1 has no text under 'caption'"),
        ("a.jsonl", "a boat", "line 1 is not JSON"),
        ("a.jsonl", '{"prompt": "a", "seed": -1}', "line 1: a seed is a whole number"),
        ("a.jsonl", '{"prompt": "a", "seed": true}', "line 1: a seed is a whole number"),
        ("a.jsonl", '{"prompt": "a", "seed": 1.5}', "line 1: a seed is a whole number"),
        ("a.csv", "prompt,sead\na,1\n", "Did you mean 'seed'"),
        ("a.csv", "prompt,name\na,../x\n", r"'\.\./x' cannot be the name"),
        ("a.csv", "prompt,name\na,.x\n", "cannot be the name"),
        ("a.csv", "prompt,name\na,X\nb,x\n", "taken twice: x"),
        ("a.csv", "prompt,name\na,0001\nb,\n", "taken twice: 0001"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(name: str, text: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=words):
        read(written(tmp_path, name, text))


def test_a_file_that_is_not_there_or_is_no_text_is_refused(tmp_path: Path) -> None:
    for name in ("a.txt", "a.jsonl"):
        with pytest.raises(FileNotFoundError, match="no file"):
            read(tmp_path / name)
        (tmp_path / name).write_bytes(b"\xff\xfe\x00")
        with pytest.raises(ValueError, match="not UTF-8"):
            read(tmp_path / name)
        (tmp_path / name).unlink()


@given(st.lists(st.integers(), unique=True), st.integers(1, 9))
def test_the_parts_of_all_processes_are_everything_and_nothing_is_in_two(work: list[int], of: int) -> None:
    parts = [Share(rank, of).part(work) for rank in range(of)]
    assert sorted(item for part in parts for item in part) == sorted(work)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_a_process_learns_its_share_from_its_launcher() -> None:
    assert Share.from_environment({}) == Share(0, 1, 0)
    assert Share.from_environment({"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}) == Share(5, 8, 1)
    for wrong in ({"RANK": "2", "WORLD_SIZE": "2"}, {"RANK": "one"}):
        with pytest.raises(ValueError):
            Share.from_environment(wrong)
