"""training.toml and the commands made from it."""

from pathlib import Path

import pytest

from outrider_fleet.training import config, steps
from outrider_fleet.training.claim import Claim
from outrider_fleet.training.errors import RunnerConfigError
from outrider_protocol.errors import MalformedError

GOOD = """
poll_s = 1.5
[models.har]
train = ["python", "train.py"]
key = "keys/har.pem"
profiles = ["x86-64"]
"""


def read(tmp_path: Path, text: str) -> config.RunnerConfig:
    (tmp_path / "training.toml").write_text(text)
    return config.read(tmp_path / "training.toml")


def test_good_file(tmp_path: Path) -> None:
    """TRN-15: what is not named has its default; relative paths start at the file."""
    read_config = read(tmp_path, GOOD)
    model = read_config.models["har"]
    assert read_config.poll_s == 1.5
    assert model.train == ("python", "train.py")
    assert (model.key, model.directory) == (str(tmp_path / "keys/har.pem"), tmp_path)
    on_token = read(tmp_path, GOOD.replace("keys/har.pem", "pkcs11:object=har")).models["har"]
    assert on_token.key == "pkcs11:object=har"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[models]",
        "x = ",
        GOOD + 'more = "x"',
        'more = "x"' + GOOD,
        GOOD.replace("har]", "Har]"),
        GOOD.replace("har]", "targets]"),
        GOOD.replace('key = "keys/har.pem"', ""),
        GOOD.replace('["x86-64"]', '"x86-64"'),
        GOOD.replace('["x86-64"]', "[1]"),
        GOOD.replace("1.5", '"soon"'),
        GOOD.replace("1.5", "true"),
        GOOD.replace('"keys/har.pem"', "3"),
        GOOD + 'seed = "x"',
        "models = 3",
    ],
)
def test_other_files_are_refused(tmp_path: Path, text: str) -> None:
    """TRN-15: unknown keys, missing ones and other types are refused, before anything runs."""
    with pytest.raises(RunnerConfigError):
        read(tmp_path, text)


def test_placeholders_are_replaced_literally() -> None:
    """TRN-16: a placeholder's value is one argument, whatever it contains; other braces stay."""
    assert steps.fill(["a{out}", "{x}", "{{out}}"], {"out": "; rm -rf {seed}", "seed": "1"})[1] == "{x}"
    assert steps.fill(["{out}"], {"out": "a b;c"}) == ["a b;c"]


@pytest.mark.parametrize(
    "change",
    [
        {"id": "../x"},
        {"id": ""},
        {"model": "../har"},
        {"version": "1/0"},
        {"snapshot": "sha256:.."},
        {"fence": -1},
        {"fence": True},
        {"counter": 0},
    ],
)
def test_malformed_claims_are_refused(tmp_path: Path, change: dict[str, object]) -> None:
    """TRN-17: what a server says never becomes a path or an option unchecked."""
    good = {
        "id": "r1",
        "model": "har",
        "base_version": None,
        "version": "1.1",
        "counter": 2,
        "fence": 1,
        "snapshot": "sha256:" + "ab" * 32,
    }
    assert Claim.read(good).base_version == ""
    with pytest.raises(MalformedError):
        Claim.read({**good, **change})
