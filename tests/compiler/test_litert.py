"""LiteRT candidates, where the extra is installed; else the report's words about it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from outrider_compiler import data, importers
from outrider_compiler.candidate import Candidate, NotBuilt
from outrider_compiler.candidates import Workshop, litert
from outrider_compiler.engines import load as run
from outrider_compiler.layers import LayerFigure
from outrider_compiler.operators import share_and_fallback
from outrider_compiler.quality import sqnr_db
from outrider_profiles import Load
from outrider_profiles import load as board
from tests.compiler.conftest import Kit

ARCHITECTURE = """
import torch
from torch import nn

def block(before, after):
    return nn.Conv1d(before, after, 5, stride=2), nn.BatchNorm1d(after), nn.Hardswish()

def make():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("scale", torch.tensor([1.0, 1e-3, 1.0, 1.0, 1.0, 1.0]).reshape(1, 6, 1))
            self.body = nn.Sequential(*block(6, 48), *block(48, 96))
            self.project, self.head = nn.Linear(96, 64), nn.Linear(64, 4)

        def forward(self, x):
            embedding = self.body((x.transpose(1, 2) - 1.0) * self.scale).mean(2)
            return torch.softmax(self.head(torch.relu(self.project(embedding))), 1), embedding
    torch.manual_seed(0)
    net = Net()
    for part in net.body:
        if isinstance(part, nn.BatchNorm1d):
            nn.init.uniform_(part.weight, 0.5, 2.0)
            nn.init.normal_(part.bias)
    return net
"""
PI = dataclasses.replace(
    board("raspberry-pi-5"), precisions=("fp32", "int8_static", "int8_dynamic", "int16_activation", "int8_mixed")
)
CORAL = dataclasses.replace(PI, name="coral", precisions=("int8_static",), int8=dataclasses.replace(PI.int8, full=True))


@dataclass(frozen=True)
class Bench:
    """A torch net, what LiteRT makes of it, and answers of the source."""

    folder: Path
    shop: Workshop
    built: dict[str, Candidate | NotBuilt]
    example: data.DataSet
    expected: data.Feeds

    def candidate(self, name: str) -> Candidate:
        """What was built under this name."""
        item = self.built[name]
        assert isinstance(item, Candidate), item
        return item

    def decibels(self, candidate: Candidate) -> float:
        """The lowest ratio of both outputs."""
        got = run(candidate, Load()).run(self.example.part(0, 50))
        assert set(got) == set(self.expected)
        return min(sqnr_db(self.expected[name], got[name]) for name in got)


@pytest.fixture(scope="module")
def bench(kit: Kit, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """Every form of one net, from one conversion."""
    if litert.missing_packages():
        pytest.skip(f"not installed: {', '.join(litert.missing_packages())}")
    folder = tmp_path_factory.mktemp("litert")
    (folder / "lite_arch_of_test.py").write_text(ARCHITECTURE, encoding="utf-8")
    calibration = data.load(kit.calibration)
    units = np.array([1, 1000, 1, 1, 1, 1], np.float32)
    example = data.DataSet({"x": (calibration.feeds["x"] * units).astype(np.float32)}, None, "")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        imported = importers.load("lite_arch_of_test:make", None, example, folder)
        shop = Workshop(imported, imported.simplified, example, folder)
        built = {item.name: item for item in shop.build(PI)}
    source = run(Candidate("source", "fp32", "onnxruntime", imported.model.SerializeToString()), Load())
    return Bench(folder, shop, built, example, source.run(example.part(0, 50)))


def test_without_the_extra_the_report_says_so(kit: Kit, tmp_path: Path) -> None:
    """CMP-CAN-3: what is missing is named, for each form that the profile allows."""
    if not litert.missing_packages():
        pytest.skip("the extra is installed")
    source = importers.torch_source.TorchSource("a:b", None, kit.calibration)
    imported = importers.Imported(
        importers.onnx_file.parse(kit.model.read_bytes(), "waves"), "torch", "sha256:0", source
    )
    built = litert.build(imported, data.load(kit.calibration), ("fp32", "int8_static"), PI.int8, tmp_path)
    assert all(isinstance(item, NotBuilt) and "litert-torch" in item.reason for item in built)


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("name", "least", "ratio"),
    [("fp32", 80.0, 1.0), ("int8_static", 30.0, 0.4), ("int8_dynamic", 35.0, 0.36), ("int8_weight", 40.0, 0.36)],
)
def test_every_form_runs(name: str, least: float, ratio: float, bench: Bench) -> None:
    """CMP-CAN-4: each file answers under the source's names, close to it, and int8 is small."""
    item = bench.candidate(name)
    assert bench.decibels(item) > least
    assert len(item.data) <= ratio * len(bench.candidate("fp32").data)


@pytest.mark.timeout(300)
def test_what_has_no_integer_kernel_stays_float(bench: Bench) -> None:
    """CMP-INT-19: static int8 quantizes what XNNPACK computes in integers; the ends of the model keep their floats."""
    share, fallback = share_and_fallback(bench.candidate("int8_static"))
    assert share == 0.75
    assert fallback == ("FULLY_CONNECTED × 1", "HARD_SWISH × 2", "MEAN × 1", "MUL × 1", "SOFTMAX × 1", "SUB × 1")
    assert share_and_fallback(bench.candidate("int8_dynamic"))[0] == 1.0
    assert share_and_fallback(bench.candidate("int8_weight"))[0] == 0.0


@pytest.mark.timeout(300)
def test_an_accelerator_of_integers_gets_integers_alone(bench: Bench) -> None:
    """CMP-INT-19: where floats cannot run at all every operator is quantized; the model's ends stay float32."""
    _, item = bench.shop.build(CORAL)
    assert isinstance(item, Candidate), item
    assert share_and_fallback(item) == (1.0, ())
    runner = run(item, Load())
    assert {spec.dtype for spec in (*runner.inputs, *runner.outputs)} == {"float32"}
    # What prepares the input is in 8 bits here, and loses the channels of small units.
    assert bench.decibels(item) < bench.decibels(bench.candidate("int8_static")) - 10


@pytest.mark.timeout(300)
def test_norms_are_folded_and_the_model_is_converted_once(bench: Bench) -> None:
    """CMP-INT-20: no product or sum is left of a batch norm; another profile's forms come from the same conversion."""
    from outrider_compiler.candidates import litert_slim

    converted = bench.folder / "litert.tflite"
    model = litert_slim.parsed(converted.read_bytes())
    kinds = [kind for kind, _ in litert_slim.operators(model, model.subgraphs[0])]
    assert (kinds.count("MUL"), kinds.count("SUB"), kinds.count("ADD")) == (1, 1, 0)
    before = converted.stat().st_mtime_ns
    bench.shop.build(CORAL)
    assert converted.stat().st_mtime_ns == before


@pytest.mark.timeout(300)
def test_files_hold_no_names_and_no_vector_twice(bench: Bench) -> None:
    """CMP-INT-21: paths of modules do not ship, zero points of equal length are written once, answers are the same."""
    from outrider_compiler.candidates import litert_slim

    item = bench.candidate("int8_static")
    for trace in (b"torch", b"lite_arch", b"Conv1d", str(bench.folder).encode()):
        assert trace not in item.data
    model = litert_slim.parsed(item.data)
    channels = [t.quantization.zeroPoint for t in model.subgraphs[0].tensors if t.quantization is not None]
    written = sum(8 * len(zeros) for zeros in channels if zeros is not None)
    assert len(litert_slim.packed(model)) == len(item.data)
    weights = 48 * 6 * 5 + 96 * 48 * 5 + 96 * 64
    assert len(item.data) < weights + written + 9000


@pytest.mark.timeout(300)
def test_layers_are_named_by_module(bench: Bench) -> None:
    """CMP-LYR-2: LiteRT's layers have the paths of the source's modules and their own figures."""
    found = bench.shop.layers(PI, "int8_static")
    assert [layer.name for layer in found] == ["body.0", "body.3", "project", "head"]
    assert [layer.precision for layer in found] == ["int8", "int8", "int8", "fp32"]
    assert all(isinstance(layer, LayerFigure) and 20 < layer.sqnr_db < 70 for layer in found)


@pytest.mark.timeout(300)
def test_16_bits_keep_more_and_mixed_is_not_offered(bench: Bench) -> None:
    """CMP-INT-15: A16W8 in LiteRT; a precision that its quantizer does not make is said by name."""
    assert bench.decibels(bench.candidate("int16_activation")) > bench.decibels(bench.candidate("int8_static")) + 3
    assert bench.built["int8_mixed"] == NotBuilt("int8_mixed", "LiteRT's quantizer makes no int8_mixed")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nets.Mobile/torch.nn.modules.container.Sequential_body/torch.nn.modules.conv.Conv2d_0;2", "body.0"),
        (
            "torch.nn.modules.container.Sequential_b/torch.nn.modules.activation.ReLU_2;;torch.nn.modules.conv.Conv1d_0;",
            "0",
        ),
        ("torch.nn.modules.linear.Linear_project;;torch.export._trace.<locals>.Wrapper;", "project"),
        ("n.Net/torch.nn.modules.linear.Linear_norm_dense;1", "norm_dense"),
        ("arith.constant", ""),
    ],
)
def test_a_layer_is_called_by_its_path(name: str, said: str) -> None:
    """CMP-LYR-2: the converter's name of a tensor is read back to the module that made it."""
    from outrider_compiler.candidates.litert_slim import readable

    assert readable(name) == said
