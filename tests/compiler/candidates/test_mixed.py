"""int8 with the worst layers in float."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import onnx
import pytest

from outrider_compiler.candidate import Candidate, NotBuilt
from outrider_compiler.candidates.mixed import Search
from outrider_compiler.normalise import copied
from outrider_profiles import Profile, load
from tests.compiler.candidates import nets

VNNI, JETSON = load("x86-64-vnni"), load("jetson-orin-nano")


def mixed(made: onnx.ModelProto, folder: Path, profile: Profile, search: Search | None = None) -> Candidate | NotBuilt:
    """What int8_mixed gives."""
    return nets.workshop(made, folder, search).build(profile, "int8_mixed")[0]


@pytest.mark.parametrize(("profile", "floats"), [(VNNI, ["conv1", "swish1", "conv2"]), (JETSON, ["conv2"])])
def test_the_layers_that_harm_stay_in_float(profile: Profile, floats: list[str], tmp_path: Path) -> None:
    """CMP-INT-12: one value that 8 bits cannot hold: exactly the layers that read or make it stay in float."""
    made = nets.spiky()
    static = nets.built(made, tmp_path / "static", profile, "int8_static")
    assert min(nets.decibels(made, static).values()) < 10
    item = mixed(made, tmp_path, profile)
    assert isinstance(item, Candidate), item
    assert [made.graph.node[place].name for place in item.recipe["float"]] == floats
    assert min(nets.decibels(made, item).values()) > 30
    assert "int8" in {layer.precision for layer in item.layers}


def test_where_static_suffices_nothing_is_mixed(tmp_path: Path) -> None:
    """CMP-INT-12: int8_static that has the ratio already would be int8_mixed: not built, with the figure."""
    item = mixed(nets.swishing(), tmp_path, VNNI)
    assert isinstance(item, NotBuilt)
    assert item.reason.startswith("int8_static already reaches 3")
    assert "dB" in item.reason


def test_a_higher_ratio_takes_more_layers(tmp_path: Path) -> None:
    """CMP-INT-12: what is asked for decides; the ratio is reached, and never with fewer layers than a lower one."""
    counts = []
    for target in (39.5, 40.5):
        item = mixed(nets.swishing(), tmp_path / str(target), VNNI, Search(target_db=target))
        assert isinstance(item, Candidate), item
        assert min(nets.decibels(nets.swishing(), item).values()) > target - 2
        counts.append(len(item.recipe["float"]))
    assert counts == sorted(counts)


def test_the_recipe_needs_no_search(tmp_path: Path) -> None:
    """CMP-INT-13: with the recipe the same bytes come out in another folder, whatever the clock and the target say."""
    item = mixed(nets.spiky(), tmp_path / "first", VNNI)
    assert isinstance(item, Candidate)

    def stopped() -> float:
        raise AssertionError("nothing is measured")

    search = Search(target_db=1.0, budget_s=0.0, clock=stopped)
    shop = nets.workshop(nets.spiky(), tmp_path / "second", search)
    again = shop.build(VNNI, "int8_mixed", item.recipe)[0]
    assert isinstance(again, Candidate)
    assert again.data == item.data
    assert again.recipe == item.recipe


def test_a_recipe_of_another_model_is_refused(tmp_path: Path) -> None:
    """CMP-INT-13: places that the model does not have."""
    item = nets.workshop(nets.swishing(), tmp_path).build(VNNI, "int8_mixed", {"float": [99]})[0]
    assert item == NotBuilt("int8_mixed", "the recipe belongs to another model")


def test_no_time_still_gives_a_candidate(tmp_path: Path) -> None:
    """CMP-INT-12: a search that may not measure takes its guess, and the figures say what that is worth."""
    ticks = iter(range(1000))
    search = Search(budget_s=0.5, clock=lambda: float(next(ticks)))
    item = mixed(nets.spiky(), tmp_path, VNNI, search)
    assert isinstance(item, Candidate)
    assert len(item.recipe["float"]) == 1


def test_no_layer_left_is_said(tmp_path: Path) -> None:
    """CMP-INT-12: a ratio that only floats reach is no mixture."""
    item = mixed(nets.swishing(), tmp_path, VNNI, Search(target_db=150.0))
    assert isinstance(item, NotBuilt)
    assert item.reason.startswith("nothing worth it would be left in integers")


def test_unnamed_nodes_have_places_too(tmp_path: Path) -> None:
    """CMP-INT-13: the recipe counts nodes, so that a model without names has one as well."""
    made = nets.spiky()
    bare = copied(made)
    for node in bare.graph.node:
        node.name = ""
    items = [mixed(model, tmp_path / str(i), VNNI) for i, model in enumerate((made, bare))]
    first, second = items
    assert isinstance(first, Candidate)
    assert isinstance(second, Candidate)
    assert first.recipe == second.recipe
    assert first.data == second.data


def test_softmaxes_inside_can_be_mixed(tmp_path: Path) -> None:
    """CMP-INT-12: on an accelerator every operator is a layer that may stay in float."""
    npu = replace(JETSON, providers=(replace(JETSON.providers[0], name="QNNExecutionProvider"),))
    item = mixed(nets.transformer(1), tmp_path, npu, Search(target_db=36.0))
    assert isinstance(item, Candidate), item
    assert min(nets.decibels(nets.transformer(1), item).values()) > 33
