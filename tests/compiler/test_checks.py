"""What a profile cannot run is refused before anything is quantized, with the node or tensor named: real files each."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper

from outrider_compiler.checks import check
from outrider_compiler.cli import main
from outrider_compiler.errors import CompilerError, UnsupportedModelError
from outrider_compiler.inspection import check_file
from outrider_compiler.normalise import convert, copied, finish, opset_of, simplify
from outrider_profiles import Int8, Profile, Range, Shapes, load
from tests.compiler import graphs
from tests.compiler.conftest import Kit, fitted

PROFILE = load("x86-64")
LITERT = load("raspberry-pi-5")
SYMMETRIC = replace(PROFILE, int8=Int8(symmetric=True, activation="s8"))


@pytest.fixture(scope="module")
def model() -> onnx.ModelProto:
    """The net of the tests."""
    return fitted()


def refused(path: Path, profile: Profile = PROFILE) -> tuple[str, str]:
    """Reason and hint of the refusal of a file, whether it is refused as a file or by the profile."""
    try:
        verdict = check_file(path, (profile,))[profile.name]
    except CompilerError as error:
        verdict = {"ok": error.exit_code != 3, "reason": str(error), "hint": error.hint}
    assert not verdict["ok"]
    return verdict["reason"], verdict["hint"]


def test_the_net_passes(model: onnx.ModelProto, kit: Kit) -> None:
    """CMP-CHK-1: a model of standard operators is let through."""
    check(model, PROFILE)
    assert check_file(kit.model, (PROFILE,)) == {"x86-64": {"ok": True, "reason": "", "hint": ""}}


def custom() -> onnx.ModelProto:
    """A node of a domain that no engine has."""
    return graphs.dense(
        extra=[helper.make_node("Swirl", ["logits"], ["s"], "swirl", domain="com.acme")], domains=["com.acme"]
    )


def custom_inside() -> onnx.ModelProto:
    """The same inside a branch of an If."""
    inner = helper.make_node("Swirl", ["x"], ["chosen"], "swirl", domain="com.acme")
    return graphs.branching(inner, domains=["com.acme"])


def function(operator: str, domain: str = "") -> onnx.ModelProto:
    """A local function that holds one operator."""
    body = [helper.make_node(operator, ["a"], ["b"], "inside", domain=domain)]
    imports = [helper.make_opsetid("", 18), helper.make_opsetid("com.acme", 1)]
    own = helper.make_function("local", "Own", ["a"], ["b"], body, imports)
    call = helper.make_node("Own", ["logits"], ["s"], "call", domain="local")
    return graphs.dense(extra=[call], functions=[own], domains=["local", "com.acme"])


def denied_inside() -> onnx.ModelProto:
    """An operator of the standard inside a branch of an If."""
    return graphs.branching(helper.make_node("Elu", ["x"], ["chosen"], "bend"))


def with_input(shape: list[Any], kind: int = TensorProto.FLOAT) -> onnx.ModelProto:
    """The identity over an input of any shape and type."""
    nodes = [helper.make_node("Identity", ["word"], ["y"])]
    return graphs.model(nodes, [graphs.value("word", shape, kind)], [graphs.value("y", shape, kind)], [])


def with_dimension(size: int) -> onnx.ModelProto:
    """An input with a dimension that cannot be."""
    made = graphs.dense()
    made.graph.input[0].type.tensor_type.shape.dim[1].dim_value = size
    return made


def sequence() -> onnx.ModelProto:
    """An output that is a sequence, as sklearn's converter leaves them."""
    made = graphs.dense(extra=[helper.make_node("Identity", ["logits"], ["s"])])
    made.graph.node.append(helper.make_node("SplitToSequence", ["probabilities"], ["parts"], axis=1))
    kind = helper.make_sequence_type_proto(helper.make_tensor_type_proto(TensorProto.FLOAT, None))
    made.graph.output.append(helper.make_value_info("parts", kind))
    return made


def newest(operator: str, opset: int) -> onnx.ModelProto:
    """An operator that older versions do not have."""
    return graphs.dense(opset, extra=[helper.make_node(operator, ["logits"], ["s"], "bend")])


def unloadable() -> onnx.ModelProto:
    """Valid ONNX for which the engine has no kernel: bfloat16 on the CPU."""
    nodes = [
        helper.make_node("Cast", ["x"], ["b"], to=TensorProto.BFLOAT16),
        helper.make_node("HardSigmoid", ["b"], ["h"], "bend"),
        helper.make_node("Cast", ["h"], ["y"], to=TensorProto.FLOAT),
    ]
    return graphs.model(nodes, [graphs.value("x", ["n", 4])], [graphs.value("y", ["n", 4])], [], opset=22, ir=10)


DENY_ELU = replace(PROFILE, deny_operators=("Elu",))
OLD = replace(PROFILE, opset=Range(12, 19))
REFUSALS: list[tuple[str, Callable[[], onnx.ModelProto], Profile, str, str]] = [
    ("CMP-CHK-2", lambda: newest("Elu", 18), DENY_ELU, r"'bend' \(Elu\): x86-64 does not run Elu", "Replace Elu"),
    ("CMP-CHK-2", denied_inside, DENY_ELU, r"'bend' \(Elu\)", "Replace Elu"),
    ("CMP-CHK-2", lambda: function("Elu"), DENY_ELU, r"\(Elu\): x86-64 does not run Elu", "Replace Elu"),
    (
        "CMP-CHK-2",
        lambda: newest("Elu", 18),
        replace(DENY_ELU, int8=Int8(full=True)),
        r"'bend' \(Elu\)",
        "the board computes in integers only",
    ),
    ("CMP-CHK-3", custom, PROFILE, r"'swirl' \(Swirl\): operator domain 'com\.acme' is unknown", "standard"),
    ("CMP-CHK-3", custom_inside, PROFILE, r"'swirl' \(Swirl\): operator domain 'com\.acme'", "standard"),
    (
        "CMP-CHK-3",
        lambda: function("Swirl", "com.acme"),
        PROFILE,
        r"\(Swirl\): operator domain 'com\.acme'",
        "standard",
    ),
    (
        "CMP-CHK-4",
        lambda: with_input(["batch", "time"]),
        PROFILE,
        r"'word': dimension 1 is free \('time'\)",
        "Fix every",
    ),
    (
        "CMP-CHK-4",
        lambda: with_input(["batch", "time"]),
        replace(PROFILE, shapes=Shapes(dynamic_batch=False, batch=4)),
        "dimension 1 is free",
        "dimension 0 becomes 4 on x86-64",
    ),
    ("CMP-CHK-4", lambda: with_input([0, 3]), PROFILE, r"'word': dimension 0 is 0", "Fix every dimension"),
    ("CMP-CHK-4", lambda: with_dimension(-2), PROFILE, r"'x' has the dimensions \[-2\]", "name instead"),
    ("CMP-CHK-5", graphs.dense, replace(PROFILE, memory_bytes=200), r"has 200 \(largest: 'w1'\)", "smaller"),
    (
        "CMP-CHK-5",
        lambda: with_input(["n", 1 << 40]),
        PROFILE,
        "'word' of shape .* takes 4398046511104 bytes",
        "smaller",
    ),
    ("CMP-CHK-6", lambda: with_input(["n"], TensorProto.STRING), PROFILE, "input 'word' has type", "Use one of"),
    ("CMP-CHK-6", lambda: with_input(["n"], TensorProto.UINT32), PROFILE, "input 'word' has type uint32", "int32"),
    ("CMP-CHK-6", lambda: with_input([]), PROFILE, "input 'word' is a scalar", "first axis"),
    ("CMP-CHK-6", sequence, PROFILE, "output 'parts' is no tensor", "zipmap=False"),
    (
        "CMP-CHK-7",
        lambda: newest("Gelu", 20),
        OLD,
        "opset 20 cannot be converted to 19.*operator Gelu",
        "opset 13 to 19",
    ),
    ("CMP-CHK-7", lambda: graphs.dense(7, 3), PROFILE, "opset 7: 8 to [0-9]+ are read", "Export it with opset"),
    (
        "CMP-CHK-8",
        lambda: graphs.quantized(3),
        SYMMETRIC,
        r"'quantize'.*zero point 'input_zero_point' is not 0",
        "symm",
    ),
    (
        "CMP-CHK-9",
        lambda: with_input(["n", 1, 2, 3, 4]),
        replace(PROFILE, shapes=Shapes(rank_max=4)),
        "has 5 dim",
        "Merge",
    ),
    ("CMP-CHK-10", unloadable, PROFILE, "ONNX Runtime .* does not load it.*HardSigmoid", "names the node"),
]


@pytest.mark.parametrize(
    ("rule", "make", "profile", "said", "advice"), REFUSALS, ids=[f"{i}-{item[0]}" for i, item in enumerate(REFUSALS)]
)
def test_refusals(
    tmp_path: Path, rule: str, make: Callable[[], onnx.ModelProto], profile: Profile, said: str, advice: str
) -> None:
    """CMP-CHK-2 to CMP-CHK-10: each refusal of a real file names what it is about and says what to do."""
    onnx.save_model(make(), tmp_path / "net.onnx")
    reason, hint = refused(tmp_path / "net.onnx", profile)
    assert re.search(said, reason), reason
    assert advice in hint
    assert "\n" not in reason


@pytest.mark.parametrize(
    ("more", "profile", "said"),
    [
        ({"custom": "Swirl"}, LITERT, r"operator 'Swirl' \(-> 'dense/logits'\) is a custom one"),
        ({}, replace(LITERT, deny_operators=("SOFTMAX",)), "operator SOFTMAX .*does not run it"),
        ({"zero_point": 3}, replace(LITERT, int8=Int8(symmetric=True)), "'dense/logits' has the zero point 3"),
        ({}, replace(LITERT, memory_bytes=90), "largest: 'dense/weights'"),
        ({}, replace(LITERT, shapes=Shapes(rank_max=1)), "has 2 dimensions"),
        ({"weights": np.full((3, 4), np.nan, np.float32)}, LITERT, "'dense/weights' holds NaN"),
        ({"weights": np.ones((3, 3), np.float32)}, LITERT, "'dense/weights' needs 48 bytes of values, 36 are there"),
        ({}, PROFILE, "cannot become ONNX"),
    ],
)
def test_litert_files_are_checked_too(tmp_path: Path, more: dict[str, Any], profile: Profile, said: str) -> None:
    """CMP-CHK-11: the same rules hold for a .tflite file, in LiteRT's own words."""
    pytest.importorskip("ai_edge_litert")
    (tmp_path / "net.tflite").write_bytes(graphs.tflite(**more))
    reason, hint = refused(tmp_path / "net.tflite", profile)
    assert re.search(said, reason), reason
    assert hint or "ONNX" in reason


def test_a_litert_file_passes(tmp_path: Path) -> None:
    """CMP-CHK-11: a file of built-in operators is let through; a symmetric board takes zero points of 0."""
    pytest.importorskip("ai_edge_litert")
    (tmp_path / "net.tflite").write_bytes(graphs.tflite(zero_point=0))
    assert check_file(tmp_path / "net.tflite", (replace(LITERT, int8=Int8(symmetric=True)),))[LITERT.name]["ok"]


def test_an_onnx_file_is_none_for_litert(kit: Kit) -> None:
    """CMP-CHK-11: a profile whose engine reads another format says so."""
    assert "cannot become a LiteRT model" in refused(kit.model, LITERT)[0]


def test_a_free_batch_is_fixed(model: onnx.ModelProto) -> None:
    """CMP-CHK-4: without dynamic batches the first dimension gets the profile's size, in the outputs too."""
    fixed = convert(copied(model), replace(PROFILE, shapes=Shapes(dynamic_batch=False, batch=4)))
    for item in (*fixed.graph.input, *fixed.graph.output):
        assert item.type.tensor_type.shape.dim[0].dim_value == 4
    onnx.checker.check_model(fixed, full_check=True)


def test_zero_points_of_zero_pass(tmp_path: Path) -> None:
    """CMP-CHK-8: a model that came symmetrically quantized runs on a symmetric board."""
    onnx.save_model(graphs.quantized(0), tmp_path / "net.onnx")
    assert check_file(tmp_path / "net.onnx", (SYMMETRIC,))["x86-64"]["ok"]


@pytest.mark.parametrize("opset", [8, 9, 11, 13, 17, 21, 25])
def test_every_opset_from_8_is_read(tmp_path: Path, opset: int) -> None:
    """CMP-CHK-7: files of old and new opsets run on a board of opset 13 to 20 and give the same answers."""
    import onnxruntime as ort

    source = graphs.dense(opset, 3 if opset == 8 else 8)
    onnx.save_model(source, tmp_path / "net.onnx")
    profile = replace(PROFILE, opset=Range(13, 20))
    assert check_file(tmp_path / "net.onnx", (profile,))["x86-64"] == {"ok": True, "reason": "", "hint": ""}
    made = convert(simplify(source), profile)
    assert 13 <= opset_of(made) <= 20
    feeds = {"x": np.random.default_rng(3).normal(size=(6, graphs.WIDTH)).astype(np.float32)}
    one, other = (
        ort.InferenceSession(item.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, feeds)[0]
        for item in (source, made)
    )
    np.testing.assert_allclose(one, other, atol=1e-6)


def test_versions_are_converted_into_the_profile(model: onnx.ModelProto) -> None:
    """CMP-CHK-7: opset and IR version are brought into the profile's range; where that fails, the model is refused."""
    older = convert(copied(model), replace(PROFILE, opset=Range(13, 18), ir=Range(7, 8)))
    assert (opset_of(older), older.ir_version) == (18, 8)
    with pytest.raises(UnsupportedModelError, match="opset 18 cannot be converted to 11"):
        convert(copied(model), replace(PROFILE, opset=Range(7, 11)))


@pytest.mark.parametrize(("name", "reason"), [("junk", "not an ONNX file"), ("custom", "com.acme")])
def test_the_command_refuses(tmp_path: Path, name: str, reason: str) -> None:
    """CMP-CHK-12: status 3, the reason and what to do about it; how soon is told by `make bench-refusals`."""
    if name == "junk":
        (tmp_path / "net.onnx").write_bytes(b"junk")
    else:
        onnx.save_model(custom(), tmp_path / "net.onnx")
    done = CliRunner().invoke(main, ["check", str(tmp_path / "net.onnx"), "--profile", "x86-64"])
    assert done.exit_code == 3
    assert reason in done.output
    assert "hint: " in done.output


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


def test_subgraphs_are_renamed_and_stripped_too() -> None:
    """CMP-NRM-1, CMP-NRM-2: nothing of the exporter is left inside the branches of an If, and the graph is the same."""
    import onnxruntime as ort

    model = graphs.branching(helper.make_node("Elu", ["x"], ["chosen"], "bend", doc_string="File /secret/place"))
    feeds = {"x": np.ones((2, graphs.WIDTH), np.float32)}
    before = ort.InferenceSession(model.SerializeToString()).run(None, feeds)[0]
    data = finish(copied(model))
    assert not any(trace in data for trace in (b"/secret/place", b"bend", b"chosen"))
    np.testing.assert_array_equal(ort.InferenceSession(data).run(None, feeds)[0], before)


def test_new_names_are_not_those_of_inputs_and_outputs() -> None:
    """CMP-NRM-2: an output that is called like a generated name stays the only one of that name."""
    made = copied(graphs.dense())
    for node in made.graph.node:
        for i, name in enumerate(node.output):
            node.output[i] = "w4" if name == "probabilities" else name
    made.graph.output[0].name = "w4"
    onnx.checker.check_model(onnx.load_model_from_string(finish(made)), full_check=True)


def test_source_file_is_read_as_it_is(kit: Kit, model: onnx.ModelProto) -> None:
    """CMP-NRM-1: the traces that the test net carries are gone after `finish`."""
    raw = kit.model.read_bytes()
    assert b"/secret/place" in raw
    assert b"/secret/place" not in finish(copied(model))
