"""What a profile cannot run is refused before anything is quantized, with the node or tensor named."""

from __future__ import annotations

from dataclasses import replace

import onnx
import pytest
from onnx import TensorProto, helper

from outrider_compiler.checks import check
from outrider_compiler.errors import UnsupportedModelError
from outrider_compiler.normalise import convert, copied, finish, opset_of, simplify
from outrider_profiles import Range, Shapes, load
from tests.compiler.conftest import Kit, fitted

PROFILE = load("x86-64")


@pytest.fixture(scope="module")
def model() -> onnx.ModelProto:
    """The net of the tests."""
    return fitted()


def test_the_net_passes(model: onnx.ModelProto) -> None:
    """CMP-CHK-1: a model of standard operators is let through."""
    check(model, PROFILE)


def test_a_denied_operator_names_its_node(model: onnx.ModelProto) -> None:
    """CMP-CHK-2: an operator on the profile's deny list is refused, naming the node."""
    with pytest.raises(UnsupportedModelError, match=r"node 'node_conv0' \(Conv\): x86-64 does not run Conv"):
        check(model, replace(PROFILE, deny_operators=("Conv",)))


def test_a_custom_operator_names_its_node(model: onnx.ModelProto) -> None:
    """CMP-CHK-3: an operator of an unknown domain is refused, naming the node."""
    custom = copied(model)
    custom.graph.node[0].domain = "com.acme"
    with pytest.raises(UnsupportedModelError, match=r"-> centred.*'com\.acme' is unknown"):
        check(custom, PROFILE)


def test_free_dimensions_are_named(model: onnx.ModelProto) -> None:
    """CMP-CHK-4: only the first dimension may be free, and only where the profile allows it."""
    free = copied(model)
    free.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "time"
    with pytest.raises(UnsupportedModelError, match=r"input 'x': dimensions \[0, 1\] are free"):
        check(free, PROFILE)
    with pytest.raises(UnsupportedModelError, match=r"dimensions \[0\] are free"):
        check(model, replace(PROFILE, shapes=Shapes(dynamic_batch=False)))


def test_a_model_that_does_not_fit_is_refused(model: onnx.ModelProto) -> None:
    """CMP-CHK-5: weights that the memory cannot hold twice are refused, naming the largest tensor."""
    with pytest.raises(UnsupportedModelError, match=r"largest: 'conv2\.weight'"):
        check(model, replace(PROFILE, memory_bytes=50_000))


def test_inputs_have_a_type_that_devices_take() -> None:
    """CMP-CHK-6: a string input is refused by name."""
    nodes = [helper.make_node("Identity", ["word"], ["y"])]
    values = [helper.make_tensor_value_info(name, TensorProto.STRING, ["n"]) for name in ("word", "y")]
    words = helper.make_model(helper.make_graph(nodes, "g", values[:1], values[1:]))
    with pytest.raises(UnsupportedModelError, match="input 'word' has type"):
        check(words, PROFILE)


def test_versions_are_converted_into_the_profile(model: onnx.ModelProto) -> None:
    """CMP-CHK-7: opset and IR version are brought into the profile's range; where that fails, the model is refused."""
    older = convert(copied(model), replace(PROFILE, opset=Range(13, 18), ir=Range(7, 8)))
    assert (opset_of(older), older.ir_version) == (18, 8)
    with pytest.raises(UnsupportedModelError, match="opset 18 cannot be converted to 13"):
        convert(copied(model), replace(PROFILE, opset=Range(7, 13)))


def test_names_depend_on_the_graph_alone(model: onnx.ModelProto) -> None:
    """CMP-NRM-2: the same graph under other names gives the same bytes; inputs and outputs keep theirs."""
    renamed = copied(model)
    for node in renamed.graph.node:
        for names in (node.input, node.output):
            for i, name in enumerate(names):
                names[i] = name if name in ("x", "probabilities", "embedding") else f"other_{name}"
        node.name = f"elsewhere_{node.name}"
    for tensor in renamed.graph.initializer:
        tensor.name = f"other_{tensor.name}"
    assert finish(simplify(renamed)) == finish(simplify(model))
    assert [item.name for item in model.graph.output] == ["probabilities", "embedding"]


def test_source_file_is_read_as_it_is(kit: Kit, model: onnx.ModelProto) -> None:
    """CMP-NRM-1: the traces that the test net carries are gone after `finish`."""
    raw = kit.model.read_bytes()
    assert b"/secret/place" in raw
    assert b"/secret/place" not in finish(copied(model))
