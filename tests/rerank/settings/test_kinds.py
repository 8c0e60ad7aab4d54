"""Settings of encoders and decoders, each with its own fields, out of files that hold all."""

import pytest
import yaml

from configs.models import find_model
from configs.settings import read_mapping
from rerank.settings.common import RankerSettings
from rerank.settings.decoder import DecoderSettings
from rerank.settings.encoder import EncoderSettings
from rerank.settings.reading import all_fields, make_ranker_settings, read_ranker_settings
from rerank.settings.writing import write_settings

# What every blockrank.yaml held before settings had kinds.
ALL = {
    "layer": None, "layer_share": 0.625, "heads": None, "head_weights": None,
    "temperature": 0.05, "late_interaction": False, "lexical": False,
}  # fmt: skip
# What came later, as if nothing were asked of it.
SINCE = {"coverage_layer": None}
# What newer settings alone name, and only where they ask for it.
LATER = {"query_gates"}


@pytest.mark.parametrize(
    ("name", "kind"), [("minilm", EncoderSettings), ("smollm2", DecoderSettings)]
)
def test_a_file_that_holds_the_fields_of_both_kinds(name, kind):
    values = read_mapping(f"rerank/{name}")
    made = make_ranker_settings(ALL | values, "blockrank.yaml")
    assert type(made) is kind
    assert made == read_ranker_settings(f"rerank/{name}")
    assert {**ALL, **values}.items() <= all_fields(made).items()


def test_the_shipped_file_from_before_there_were_kinds():
    values = read_mapping(f"{find_model('mini')}/blockrank.yaml")
    assert set(ALL) < set(values)
    made = read_ranker_settings(f"{find_model('mini')}/blockrank.yaml")
    assert isinstance(made, EncoderSettings)
    assert made.lexical
    assert made.compares_words
    assert all_fields(made) == values | SINCE


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("minilm", {"layer": 3}, "f.yaml: layer and heads need backbone: decoder; encoders score"),
        ("minilm", {"layer": 0}, "layer and heads need backbone: decoder"),
        ("minilm", {"heads": []}, "layer and heads need backbone: decoder"),
        ("minilm", {"heads": [[0, 1]]}, "layer and heads need backbone: decoder"),
        ("minilm", {"coverage_layer": 1}, "f.yaml: coverage_layer needs backbone: decoder"),
        ("smollm2", {"late_interaction": True}, "late_interaction needs backbone: encoder and"),
        ("minilm", {"score": "mass", "lexical": True}, "lexical needs backbone: encoder and score"),
        ("minilm", {"temperature": 0.0}, "temperature is 0.0, wanted more than 0"),
        ("smollm2", {"backbone": "mixer"}, "f.yaml: backbone is 'mixer', wanted 'encoder' or 'dec"),
        ("smollm2", {"backbone": ["decoder"]}, "f.yaml: backbone is .'decoder'., wanted 'encoder'"),
        ("smollm2", {"signal_tokens": 0}, "signal_tokens is 0, wanted at least 1"),
    ],
)
def test_what_the_other_kind_has_is_refused_where_it_asks_for_something(name, changes, message):
    with pytest.raises(ValueError, match=message):
        make_ranker_settings(read_mapping(f"rerank/{name}") | changes, "f.yaml")


def test_a_kind_is_wanted():
    values = read_mapping("rerank/minilm")
    del values["backbone"]
    with pytest.raises(ValueError, match=r"f\.yaml: backbone is missing"):
        make_ranker_settings(values, "f.yaml")


@pytest.mark.parametrize("changes", [{}, {"heads": [[1, 2], [3, 0]], "head_weights": [0.5, 1]}])
def test_what_is_written_reads_back_and_names_no_field_of_the_other_kind(tmp_path, changes):
    made = make_ranker_settings(read_mapping("rerank/smollm2") | changes, "here")
    write_settings(tmp_path / "blockrank.yaml", made)
    assert read_ranker_settings(tmp_path / "blockrank.yaml") == made
    written = yaml.safe_load((tmp_path / "blockrank.yaml").read_text(encoding="utf-8"))
    assert "heads" in written
    assert "temperature" not in written


def test_no_field_has_two_homes():
    common = set(RankerSettings.__dataclass_fields__)
    encoder, decoder = (set(s.__dataclass_fields__) for s in (EncoderSettings, DecoderSettings))
    assert encoder & decoder == common
    assert (encoder | decoder) - common == {*ALL, *SINCE, *LATER}
