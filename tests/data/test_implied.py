"""Inputs that follow from the tokens: what is fed, and what is still asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from qcompiler.data import InputInfo, open_source
from qcompiler.data.implied import completed, listed
from qcompiler.errors import DataError

F32, I64 = np.dtype(np.float32), np.dtype(np.int64)
IDS = InputInfo("input_ids", I64, ("batch", "length"))
PLACES = InputInfo("position_ids", I64, ("batch", "length"))
TOKENS = np.array([[5, 6, 7], [8, 9, 1]])


def mask(total: int | str | None = "total") -> InputInfo:
    return InputInfo("attention_mask", I64, ("batch", total))


def past(places: int | str | None = "past", width: int | str = 8, name: str = "past_key_values.0.key") -> InputInfo:
    return InputInfo(name, F32, ("batch", 2, places, width))


def fed(feed: dict[str, np.ndarray], *inputs: InputInfo) -> dict[str, np.ndarray]:
    return completed(feed, inputs)


@pytest.mark.parametrize("total", ["total", "length", "past + length", None])
@pytest.mark.parametrize("places", ["past", None])
def test_a_decoder_starts_from_tokens(total: str | None, places: str | None) -> None:
    found = fed({"input_ids": TOKENS}, IDS, mask(total), PLACES, past(places))
    assert found["attention_mask"].tolist() == [[1, 1, 1]] * 2
    assert found["position_ids"].tolist() == [[0, 1, 2]] * 2
    assert found["past_key_values.0.key"].shape == (2, 2, 0, 8)
    assert found["attention_mask"].dtype == I64 and found["past_key_values.0.key"].dtype == F32


def test_a_past_of_a_fixed_size_is_hidden() -> None:
    found = fed({"input_ids": TOKENS[:1]}, IDS, mask(7), PLACES, past(4))
    assert found["attention_mask"].tolist() == [[0, 0, 0, 0, 1, 1, 1]]
    assert found["position_ids"].tolist() == [[0, 1, 2]]
    assert found["past_key_values.0.key"].shape == (1, 2, 4, 8)


def test_a_past_that_is_given_counts() -> None:
    given = {"input_ids": TOKENS, "past_key_values.0.key": np.ones((2, 2, 4, 8), np.float32)}
    found = fed(given, IDS, mask(), past())
    assert found["attention_mask"].tolist() == [[1] * 7] * 2
    assert found["past_key_values.0.key"] is given["past_key_values.0.key"]


def test_a_past_that_slides_has_its_window() -> None:
    sliding = InputInfo("past_key_values.1.key", F32, ("batch", 2, "window", 8), window=16)
    found = fed({"input_ids": TOKENS}, IDS, mask(), past(), sliding)
    assert found["attention_mask"].tolist() == [[1, 1, 1]] * 2
    assert found["past_key_values.0.key"].shape == (2, 2, 0, 8)
    assert found["past_key_values.1.key"].shape == (2, 2, 16, 8)


def test_what_is_given_is_fed() -> None:
    given = {"input_ids": TOKENS, "attention_mask": np.array([[0, 1, 1], [1, 1, 1]])}
    assert fed(given, IDS, mask("length"))["attention_mask"] is given["attention_mask"]


def test_a_merged_decoder_takes_the_branch_without_a_past() -> None:
    states = InputInfo("encoder_hidden_states", F32, ("batch", "source", 8))
    branch = InputInfo("use_cache_branch", np.dtype(np.bool_), (1,))
    encoded = InputInfo("encoder_attention_mask", I64, ("batch", "source"))
    crossed = past("source", name="past_key_values.0.encoder.key")
    given = {"input_ids": TOKENS, "encoder_hidden_states": np.zeros((2, 5, 8), np.float32)}
    found = fed(given, encoded, IDS, states, past(), crossed, branch)
    assert found["use_cache_branch"].tolist() == [False]
    assert found["encoder_attention_mask"].tolist() == [[1] * 5] * 2
    assert found["past_key_values.0.encoder.key"].shape == (2, 2, 5, 8)
    assert "past_key_values.0.encoder.key" not in fed(given, IDS, states, crossed)


def test_segments_are_zeros() -> None:
    found = fed({"input_ids": TOKENS}, IDS, InputInfo("token_type_ids", I64, ("batch", "length")))
    assert found["token_type_ids"].tolist() == [[0, 0, 0]] * 2


def test_a_file_of_tokens_is_enough(tmp_path: Path) -> None:
    np.savez(tmp_path / "tokens.npz", input_ids=TOKENS, labels=TOKENS)
    inputs = [IDS, mask(), past(), past(name="past_key_values.0.value")]
    source = open_source(tmp_path / "tokens.npz", inputs)
    assert [list(sample.feed) for sample in source] == [[info.name for info in inputs]] * 2
    assert listed(source.implied) == "attention_mask (ones), past_key_values.0.key and 1 more (an empty past)"


@pytest.mark.parametrize("form", ["folder", "function", "mapping"])
def test_every_form_of_data_may_leave_them_out(tmp_path: Path, form: str) -> None:
    np.savez(tmp_path / "0.npz", input_ids=TOKENS)
    data = {"folder": tmp_path, "function": lambda: [{"input_ids": TOKENS}], "mapping": {"input_ids": TOKENS[None]}}
    source = open_source(data[form], [IDS, mask()])  # type: ignore[arg-type]
    assert list(source.implied) == ["attention_mask"]
    assert next(iter(source)).feed["attention_mask"].shape == (2, 3)


def test_nothing_follows_from_nothing() -> None:
    with pytest.raises(DataError, match="nothing is given for input 'input_ids'"):
        list(open_source([{"position_ids": TOKENS}], [IDS, PLACES]))
    crossed = past("length", name="past_key_values.0.encoder.key")
    with pytest.raises(DataError, match=r"nothing is given for input 'past_key_values.0.encoder.key'"):
        list(open_source([{"input_ids": TOKENS}], [IDS, crossed]))
