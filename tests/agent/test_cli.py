"""The command, as a person calls it: exit statuses by kind, a hint with every error."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from outrider_agent.cli import main
from outrider_agent.durable import Durable
from outrider_agent.errors import InputError
from outrider_agent.paths import Paths
from outrider_agent.predict import only_model, read_inputs
from outrider_agent.status import text
from outrider_agent.update import identity
from outrider_protocol.trust import Identity
from tests.agent.supervisor.world import World
from tests.agent.worker.kit import windows


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Paths:
    monkeypatch.setenv("OUTRIDER_HOME", str(tmp_path))
    return Paths.under(tmp_path)


ENROL = ["enrol", "--server", "http://127.0.0.1:1", "--token", "t.00", "--device", "dev-1", "--profile", "x86-64"]


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["run"], 2, "enrol"),
        (["status"], 4, "outrider-agent run"),
        (["predict", "absent.npz"], 2, "--model"),
        (["doctor"], 2, ""),
        ([*ENROL, "--trust-on-first-use"], 4, "Check the address"),
        ([*ENROL, "--trust-root", "absent.json"], 2, "root.json"),
    ],
)
def test_every_failure_has_its_exit_status_and_a_hint(
    home: Paths, capsys: pytest.CaptureFixture[str], arguments: list[str], status: int, said: str
) -> None:
    """AGT-CLI-1: 2 bad input, 3 refused, 4 the outside world, 5 a fault; the second line says what to do."""
    assert main(arguments) == status
    assert said in capsys.readouterr().err


def test_trust_must_be_chosen(home: Paths, capsys: pytest.CaptureFixture[str]) -> None:
    """AGT-CLI-1: trust on first use is never the default."""
    with pytest.raises(SystemExit) as caught:
        main(ENROL)
    assert caught.value.code == 2
    assert "--trust-root" in capsys.readouterr().err


def test_doctor_names_each_missing_thing(home: Paths, capsys: pytest.CaptureFixture[str]) -> None:
    """AGT-CLI-2: one line a check; what others may read is named."""
    Durable().make_directory(home.identity)
    for name in ("device.key", "device.pem", "ca.pem", "root.json"):
        (home.identity / name).write_text("x")
    (home.identity / "device.key").chmod(0o644)
    (home.identity / "identity.json").write_bytes(identity.encode(Identity("dev-1", "0" * 64, "test", "x86-64")))
    home.update.write_text("nonsense")
    assert main(["doctor"]) == 2
    said = capsys.readouterr().out
    assert "FAIL configuration" in said
    assert "FAIL identity       device.key: others may read it" in said
    assert "FAIL update.json" in said
    assert "FAIL trust" in said
    assert "ok   disk" in said


def test_inputs_of_a_file(tmp_path: Path) -> None:
    """AGT-CLI-3: .npz and .json are read; pickles and nonsense are refused by name."""
    np.savez(tmp_path / "x.npz", x=np.zeros((1, 2), np.float32))
    (tmp_path / "x.json").write_text('{"x": [[1, 2]]}')
    np.savez(tmp_path / "pickle.npz", x=np.array([{}], dtype=object))
    (tmp_path / "list.json").write_text("[1]")
    (tmp_path / "text.npz").write_text("text")
    assert read_inputs(tmp_path / "x.npz")["x"].shape == read_inputs(tmp_path / "x.json")["x"].shape == (1, 2)
    for name in ("pickle.npz", "list.json", "text.npz", "absent.npz"):
        with pytest.raises(InputError, match=name) as caught:
            read_inputs(tmp_path / name)
        assert caught.value.hint


def test_the_only_model_needs_no_name(home: Paths) -> None:
    """AGT-CLI-3: with one model served its name may be left out; with none or several it is asked for."""
    home.run.mkdir()
    for name in ("supervisor", "har"):
        (home.run / f"{name}.sock").touch()
    assert only_model(home) == "har"
    (home.run / "other.sock").touch()
    with pytest.raises(InputError, match="har, other"):
        only_model(home)


def test_status_and_predict_on_a_running_agent(
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """AGT-CLI-4: status says what runs and how the last execution ended; predict answers as for an application."""
    world.agent.start()
    artifact = world.install("1.0")
    monkeypatch.setenv("OUTRIDER_HOME", str(world.agent.home))
    assert main(["status", "--json"]) == 0
    status = json.loads(capsys.readouterr().out)
    assert (status["device"], status["digest"], status["connected"]) == ("dev-1", artifact.digest, True)
    assert "har 1.0: succeeded (order 1/1)" in text(status)
    np.savez(world.directory / "x.npz", x=windows(2))
    assert main(["predict", str(world.directory / "x.npz")]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert np.asarray(answer["outputs"]["probabilities"]).shape == (2, 3)
    assert len(answer["prediction_ids"]) == 2
    assert main(["doctor"]) == 0
