"""The bench of the compiler on digits (examples/bench/digits): its nets, its parts, its demands."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from examples.bench.digits import data, demands, kept, running
from examples.bench.digits.builds import BOARDS, FAST, LITERT
from examples.bench.digits.case import ARCHITECTURES, OURS, Case
from examples.bench.digits.compare import SOURCE, Found
from examples.bench.digits.data import Digits, Split
from examples.bench.digits.demands import Demand, Times
from examples.bench.digits.nets import NETS
from outrider_compiler import importers
from outrider_compiler.data import DataSet

REAL = sorted((data.ROOT / ".venv-bench").glob(data.PLACES))


@pytest.fixture(scope="module")
def digits() -> Digits:
    """As many images as the real file has, each of its own; classes in turn."""
    n = 1797
    x = np.broadcast_to(np.arange(n, dtype=np.float32)[:, None, None, None], (n, 1, 2, 2))
    return Digits(np.ascontiguousarray(x), np.arange(n) % 10, np.arange(n))


@pytest.mark.parametrize("name", NETS)
def test_forward(name: str) -> None:
    """Probabilities and embedding, whatever the weights are; less than a million parameters."""
    net = NETS[name]().eval()
    with torch.no_grad():
        probabilities, embedding = net(torch.rand(3, 1, 32, 32))
    assert probabilities.shape == (3, 10)
    assert embedding.shape[0] == 3
    torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(3))
    assert sum(parameter.numel() for parameter in net.parameters()) < 1_000_000


@pytest.mark.parametrize("name", ["mobile", "transformer"])
def test_the_compiler_imports_it(name: str, tmp_path: Path) -> None:
    """From a state dict with `--architecture`, as the bench does it, with a free batch and both names."""
    net = NETS[name]()
    save_file(net.state_dict(), tmp_path / "net.safetensors")
    example = DataSet({"x": np.zeros((2, 1, 32, 32), np.float32)}, None, "")
    architecture = f"{ARCHITECTURES}:{type(net).__name__}"
    model = importers.load(str(tmp_path / "net.safetensors"), architecture, example, tmp_path).model
    assert [output.name for output in model.graph.output] == list(running.OUTPUTS)
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param


@pytest.mark.parametrize("deal", [data.split, data.by_image])
@pytest.mark.parametrize("seed", range(6))
def test_no_image_has_two_parts(deal: Callable[[Digits, int], Split], seed: int, digits: Digits) -> None:
    """Every image in one part, the same again for the same seed; one image is about 0.2 points."""
    first, again = deal(digits, seed), deal(digits, seed)
    parts = [first.train, first.calibration, first.evaluation, first.held_out]
    assert sorted(np.concatenate([part.index for part in parts])) == list(range(1797))
    assert len(first.calibration.y) == data.CALIBRATION
    assert len(first.evaluation.y) >= 485
    assert (first.evaluation.index == again.evaluation.index).all()


def test_forms_are_whole(digits: Digits) -> None:
    """Nobody's form judges a net that it taught, and seeds deal differently."""
    dealt = [data.split(digits, seed) for seed in range(3)]
    for part in dealt:
        taught = set(data.form_of(np.concatenate([part.train.index, part.calibration.index])))
        judged, held = set(data.form_of(part.evaluation.index)), set(data.form_of(part.held_out.index))
        assert (len(taught), len(judged), len(held)) == (8, 4, 2)
        assert not taught & (judged | held)
        assert not judged & held
    assert all(set(a.evaluation.index) != set(b.evaluation.index) for a, b in itertools.combinations(dealt, 2))


def test_enlarged_is_linear_between_centres() -> None:
    """A slope stays one; edges repeat the outermost pixel; nothing leaves the range."""
    slope = np.broadcast_to(np.arange(8, dtype=np.float32) / 7, (1, 8, 8))
    large = data.enlarged(np.ascontiguousarray(slope))[0, 0]
    np.testing.assert_allclose(np.diff(large[0, 2:30]), 1 / 28, atol=1e-6)
    assert large[0, 0] == large[0, 1] == 0
    assert large[5, -1] == 1


def test_another_file_is_not_read(tmp_path: Path) -> None:
    """Neither an absent one nor a changed one."""
    with pytest.raises(data.DigitsAbsentError):
        data.find(tmp_path)
    (tmp_path / "digits.csv.gz").write_bytes(b"other")
    with pytest.raises(data.DigitsAbsentError):
        data.load(tmp_path / "digits.csv.gz")


@pytest.mark.skipif(not REAL, reason="scikit-learn's digits are not here: `make setup-bench`")
def test_labels_repeat_one_form() -> None:
    """Each copy begins with 0…9 and ends as the first does, but for a digit or two that were left out."""
    y = "".join(map(str, data.load(REAL[0]).y))
    ends = [*data.FORMS[1:], len(y)]
    for first, last in zip(data.FORMS, ends, strict=True):
        assert y[first:last].startswith(("0123456789012345", "123456789012345"))
        assert y[first:last].endswith(("88490898", "88490893", "54490898", "54884908"))
        assert 120 < last - first <= 130


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
def test_integer_inputs_come_back(dtype: type[np.integer]) -> None:
    """A file with integer inputs is fed by its own scale and zero point, and clipped at its ends."""
    zero = np.iinfo(dtype).min
    detail = {"dtype": dtype, "quantization": (1 / 255, zero)}
    fed = running._to_integers(np.array([0.0, 0.5, 1.0, 9.0], np.float32), detail)
    assert fed.dtype == dtype
    np.testing.assert_allclose(running._to_floats(fed, detail), [0, 0.5, 1, 1], atol=1 / 255)


def found(speed_up: float = 3.0, accuracy: float = 0.98, noise: float = 45.0) -> Found:
    """One file's figures."""
    sqnr = {"probabilities": noise + 1, "embedding": noise}
    return Found(100, 80.0, (speed_up, speed_up, speed_up), accuracy, sqnr, 1.0, 500)


def case(net: str, ours: Found, size: int = 26, litert_db: float = 30.0) -> Case:
    """A case in which the compiler chose static int8 everywhere."""
    listed = [
        {"name": "fp32", "size_bytes": 100, "sqnr_db": {"probabilities": 200.0}},
        {
            "name": "int8_static",
            "size_bytes": size,
            "sqnr_db": {"probabilities": litert_db + 1, "embedding": litert_db},
        },
    ]
    figures = {board: {SOURCE: found(1.0), OURS: ours} for board in BOARDS}
    chosen, candidates = dict.fromkeys(BOARDS, "int8_static"), dict.fromkeys(BOARDS, listed)
    return Case(net, 0, 0.98, 0.1, 500, figures, chosen, candidates, (), 30.0, 20.0)


def judged(*cases: Case, watch_s: float = 9.0) -> dict[str, Demand]:
    """Demands by the first words of their titles; the planted case, which is not here, left out."""
    listed = demands.demands(list(cases), [], Times(watch_s, 5.0))
    return {item.title.split(",")[0]: item for item in listed if not item.title.startswith("planted")}


GOOD = (case("plain", found()), case("mobile", found()), case("transformer", found(1.6)))


def test_all_demands_hold_on_good_figures() -> None:
    """So that each change below is what fails."""
    assert all(item.holds for item in judged(*GOOD).values())
    assert not demands.demands(list(GOOD), [], Times(9.0, 5.0))[5].holds  # nothing was planted


@pytest.mark.parametrize(
    ("bad", "title"),
    [
        (case("mobile", found(0.99)), "nothing that ships is slower than its fp32"),
        (case("plain", found(2.29)), f"plain net on {FAST}"),
        (case("plain", found(accuracy=0.9779)), f"plain net on {FAST}"),
        (case("transformer", found(1.49)), f"transformer on {FAST}"),
        (case("transformer", found(noise=39.9)), f"transformer on {FAST}"),
        (case("mobile", found(), size=37), "size of int8 candidates"),
        (case("mobile", found(), litert_db=24.9), "LiteRT static int8"),
        (replace(case("mobile", found()), wall_s=61.0), "each net compiles for three boards"),
    ],
)
def test_one_bad_seed_fails_its_demand(bad: Case, title: str) -> None:
    """Every seed and net counts, not their mean."""
    failing = {name for name, item in judged(*GOOD, bad).items() if not item.holds}
    assert failing == {title}


def test_absent_litert_candidate_fails_its_demand() -> None:
    """A form that could not be built is no success."""
    whole = GOOD[0].candidates
    bad = replace(GOOD[0], candidates={**whole, LITERT: whole[LITERT][:1]})
    assert not judged(*GOOD, bad)["LiteRT static int8"].holds


def test_kept_fp32_is_not_slower() -> None:
    """Where fp32 ships, noise of the clock between two equal files is no failure."""
    kept = replace(case("mobile", found(0.97)), chosen=dict.fromkeys(BOARDS, SOURCE))
    assert judged(*GOOD, kept)["nothing that ships is slower than its fp32"].holds


def test_a_tie_is_not_slower() -> None:
    """Two files that compute the same differ by what the clock can tell."""
    tie = replace(found(), speed_up=(0.99, 0.97, 1.01))
    assert judged(*GOOD, case("mobile", tie))["nothing that ships is slower than its fp32"].holds


def test_slow_demo_fails_its_demand() -> None:
    """Twelve seconds for the demo's net."""
    assert not judged(*GOOD, watch_s=12.1)["the demo's net compiles for three boards"].holds


def test_a_case_comes_back_from_disk(tmp_path: Path) -> None:
    """A run that was cut short goes on with the same figures."""
    whole = case("plain", found(noise=float("inf")))
    kept.keep(tmp_path, whole)
    assert kept.kept(tmp_path, "plain", 0) == whole
    assert kept.kept(tmp_path, "plain", 1) is None
