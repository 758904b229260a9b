"""LiteRT candidates, where the extra is installed; else the report's words about it."""

from __future__ import annotations

from pathlib import Path

import pytest

from outrider_compiler import data, importers
from outrider_compiler.candidate import Candidate, NotBuilt
from outrider_compiler.candidates import litert
from outrider_profiles import Int8
from tests.compiler.conftest import Kit

ARCHITECTURE = """
import torch
from torch import nn

def make():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.head = nn.Conv1d(6, 16, 5, stride=2), nn.Linear(16, 4)

        def forward(self, x):
            embedding = torch.relu(self.conv(x.transpose(1, 2))).mean(2)
            return torch.softmax(self.head(embedding), 1), embedding
    torch.manual_seed(0)
    return Net()
"""


def test_without_the_extra_the_report_says_so(kit: Kit, tmp_path: Path) -> None:
    """CMP-CAN-3: what is missing is named, for each form that the profile allows."""
    if not litert.missing_packages():
        pytest.skip("the extra is installed")
    source = importers.torch_source.TorchSource("a:b", None, kit.calibration)
    imported = importers.Imported(
        importers.onnx_file.parse(kit.model.read_bytes(), "waves"), "torch", "sha256:0", source
    )
    built = litert.build(imported, data.load(kit.calibration), ("fp32", "int8_static"), Int8(), tmp_path)
    assert all(isinstance(item, NotBuilt) and "litert-torch" in item.reason for item in built)


@pytest.mark.timeout(300)
def test_with_the_extra_both_forms_run(kit: Kit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CMP-CAN-4: fp32 and int8 files answer under the source's names, close to it."""
    if litert.missing_packages():
        pytest.skip(f"not installed: {', '.join(litert.missing_packages())}")
    from outrider_compiler.engines import load
    from outrider_compiler.quality import sqnr_db
    from outrider_profiles import Load

    (tmp_path / "lite_arch_of_test.py").write_text(ARCHITECTURE, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    example = data.load(kit.calibration)
    imported = importers.load("lite_arch_of_test:make", None, example, tmp_path)
    plain, int8 = litert.build(imported, example, ("fp32", "int8_static"), Int8(), tmp_path)
    assert isinstance(plain, Candidate)
    assert isinstance(int8, Candidate)
    source = load(Candidate("source", "fp32", "onnxruntime", imported.model.SerializeToString()), Load())
    feeds = example.part(0, 50)
    expected = source.run(feeds)
    for candidate, least in ((plain, 80.0), (int8, 25.0)):
        got = load(candidate, Load()).run(feeds)
        assert set(got) == set(expected)
        assert min(sqnr_db(expected[name], got[name]) for name in got) > least
