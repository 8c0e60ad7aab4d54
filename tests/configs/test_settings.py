from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from configs.settings import CONFIGS, make_settings, read_mapping, read_settings


@dataclass(frozen=True)
class Inner:
    rate: float = 0.1


@dataclass(frozen=True)
class Outer:
    name: str
    count: int = 3
    share: float | None = None
    kind: Literal["a", "b"] | None = "a"
    names: tuple[str, ...] = ()
    pair: tuple[int, float] = (1, 2.0)
    inner: Inner = Inner()
    flag: bool = False
    sizes: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    free: dict[str, Any] = field(default_factory=dict)


def test_a_file_and_overrides(tmp_path):
    file = tmp_path / "s.yaml"
    file.write_text("name: x\nshare: 1\nnames: [a, b]\ninner: {rate: 2}\nkind: null\n")
    found = read_settings(Outer, file, count=9, flag=None)
    assert found == Outer("x", 9, 1.0, None, ("a", "b"), inner=Inner(2.0))
    assert isinstance(found.share, float)
    assert isinstance(found.names, tuple)


def test_mappings_keep_their_keys_and_their_values_are_checked():
    values = {"name": "x", "sizes": {"a": [1, 2]}, "free": {"b": [1], "c": None}}
    found = make_settings(Outer, values, "here")
    assert found == Outer("x", sizes={"a": (1, 2)}, free={"b": [1], "c": None})


def test_an_empty_file_is_no_setting(tmp_path):
    (tmp_path / "s.yaml").write_text("# nothing\n")
    assert read_settings(Outer, tmp_path / "s.yaml", name="x") == Outer("x")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"nmae": "x"}, "here: unknown setting 'nmae'; did you mean 'name'"),
        ({"zzz": 1}, "here: unknown setting 'zzz'; known: count, flag, free, inner"),
        ({"name": 3}, "here: name is 3, wanted str"),
        ({"count": "3"}, "here: count is '3', wanted int"),
        ({"count": True}, "here: count is True, wanted int"),
        ({"count": 1.5}, "here: count is 1.5, wanted int"),
        ({"share": True}, "here: share is True, wanted float or null"),
        ({"flag": 1}, "here: flag is 1, wanted bool"),
        ({"kind": "c"}, "here: kind is 'c', wanted 'a' or 'b' or null"),
        ({"names": "ab"}, "here: names is 'ab', wanted tuple"),
        ({"names": ["a", 1]}, r"here: names\[1\] is 1, wanted str"),
        ({"pair": [1]}, "here: pair has 1 values, wanted 2"),
        ({"inner": {"rat": 1}}, "here: inner: unknown setting 'rat'; did you mean 'rate'"),
        ({"inner": {"rate": "x"}}, "here: inner: rate is 'x', wanted float"),
        ({"inner": 1}, "here: inner is 1, wanted Inner"),
        ({"sizes": {"a": [1, "x"]}}, r"here: sizes\.a\[1\] is 'x', wanted int"),
        ({"sizes": [1]}, r"here: sizes is \[1\], wanted"),
        ({"free": [1]}, r"here: free is \[1\], wanted"),
        ({}, "here: name is missing"),
    ],
)
def test_bad_values(values, message):
    required = {"name": "x"} if values else {}
    with pytest.raises(ValueError, match=message):
        make_settings(Outer, required | values, "here")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: [", r"s\.yaml is not YAML"),
        (b"a: \xff", r"s\.yaml is not YAML"),
        (b"- a", r"s\.yaml holds list, wanted a mapping"),
    ],
)
def test_bad_files(tmp_path, content, message):
    (tmp_path / "s.yaml").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_mapping(tmp_path / "s.yaml")


def test_shipped_files_are_named_without_their_ending():
    assert read_mapping("rerank/minilm")["backbone"] == "encoder"
    with pytest.raises(ValueError, match=r"no settings file nowhere; the project ships .*rerank/"):
        read_mapping("nowhere")


def test_every_shipped_reranker_file_is_valid():
    from rerank.settings.reading import read_ranker_settings

    files = sorted((CONFIGS / "rerank").glob("*.yaml"))
    assert len(files) >= 4
    for file in files:
        read_ranker_settings(file)
