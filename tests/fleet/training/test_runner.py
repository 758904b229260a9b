"""A run, from claim to finish, with real processes and real HTTP."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from outrider_fleet.training.api import Api
from outrider_fleet.training.errors import ApiError, RunnerConfigError
from tests.fleet.training.conftest import Place
from tests.fleet.training.server import SNAPSHOT, TOKEN


def test_a_run_goes_through(place: Place) -> None:
    """TRN-1: claim, fetch, train, build, sign, publish, finish, each step reported."""
    place.state.role = b'{"role": 1}'
    assert place.runner().run_once()
    run = place.state.runs[0]
    assert run.state == "succeeded"
    assert run.finish["inputs"] == ["p1/r1", "p2/r1"]
    assert run.finish["figures"] == {"accuracy": 0.9}
    assert [text for text in run.progress if ":" not in text] == [
        "fetching the snapshot",
        "train",
        "build",
        "sign",
        "publish",
    ]
    assert not place.runner().run_once()


def test_compiler_is_asked_as_documented(place: Place) -> None:
    """TRN-2: the compiler is run, never imported: build, sign on top of the current role, publish."""
    place.state.role = b'{"role": 1}'
    place.runner().run_once()
    work = place.directory / "home" / "runs" / "r1" / "1"
    build, sign, publish = place.commands()
    assert build["argv"][0] == str(work / "out" / "model.onnx")
    for option in (["--name", "har"], ["--version", "1.1"], ["--counter", "2"], ["--profile", "raspberry-pi-5"]):
        at = build["argv"].index(option[1])
        assert build["argv"][at - 1 : at + 1] == option
    assert sign["argv"][:5] == [
        str(work / "release"),
        "--key",
        str(place.directory / "har.pem"),
        "--metadata",
        str(work / "role.current.json"),
    ]
    assert (work / "role.current.json").read_bytes() == b'{"role": 1}'
    assert publish["argv"] == [
        str(work / "release"),
        "--server",
        place.server.url,
        "--metadata",
        str(work / "role.json"),
    ]


def test_first_release_is_signed_on_nothing(place: Place) -> None:
    """TRN-2: without a published role the first one is signed."""
    place.runner().run_once()
    assert "--metadata" not in place.commands()[1]["argv"]


def test_provenance_names_run_snapshot_and_inputs(place: Place) -> None:
    """TRN-3: run.json says run, snapshot digest, base release and inputs."""
    place.runner().run_once()
    document = json.loads((place.directory / "home" / "runs" / "r1" / "1" / "run.json").read_bytes())
    assert document["run"] == "r1"
    assert document["snapshot"].startswith("sha256:")
    assert (document["base"], document["inputs"]) == ("har/1.0", ["p1/r1", "p2/r1"])


def test_training_sees_no_secrets(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """TRN-4: training gets data and seed and no secret, publishing the token, signing what opens the key."""
    monkeypatch.setenv("OUTRIDER_PASSPHRASE", "secret")
    monkeypatch.setenv("OUTRIDER_TOKEN", "another")
    place.runner().run_once()
    seen = json.loads((place.directory / "home" / "runs" / "r1" / "1" / "out" / "seen.json").read_text())
    assert seen["snapshot"] == SNAPSHOT.hex()
    assert (seen["argv"]["--seed"], seen["argv"]["--base"]) == ("7", "1.0")
    assert seen["cwd"] == str(place.directory)
    assert not [name for name in seen["env"] if name.startswith("OUTRIDER_")]
    assert [command["token"] for command in place.commands()] == [None, None, TOKEN]
    assert [command["passphrase"] for command in place.commands()] == [None, "secret", None]
    assert not [part for command in place.commands() for part in command["argv"] if TOKEN in part]


def test_damaged_snapshot_ends_the_run(place: Place) -> None:
    """TRN-5: a snapshot without its digest is not trained on; nothing is left of it."""
    place.state.snapshot = b"poisoned"
    place.runner().run_once()
    run = place.state.runs[0]
    assert run.state == "failed"
    assert run.finish["error"].startswith("SnapshotDamagedError")
    work = place.directory / "home" / "runs" / "r1" / "1"
    assert [path.name for path in work.iterdir()] == ["out"]
    assert place.commands() == []


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("print('epoch 1'); raise SystemExit('no data for class 3')", "no data for class 3"),
        ("pass", "ResultMissingError"),
        ("import os; os.kill(os.getpid(), 9)", "status -9"),
    ],
)
def test_failure_is_reported_with_its_cause(place: Place, script: str, said: str) -> None:
    """TRN-6: a failed step ends the run with class, hint and the last lines of its log; nothing is published."""
    (place.directory / "train.py").write_text(script)
    place.runner().run_once()
    run = place.state.runs[0]
    assert run.state == "failed"
    assert said in run.finish["error"]
    assert len(run.finish["error"].splitlines()) >= 2
    assert place.commands() == []


def test_malformed_result_is_reported(place: Place) -> None:
    """TRN-6: a training.json of another form ends the run with a named error."""
    with (place.directory / "train.py").open("a") as file:
        file.write('\n(out / "training.json").write_text("[]")\n')
    place.runner().run_once()
    assert place.state.runs[0].finish["error"].startswith("MalformedError")


def test_gate_refusal_is_reported(place: Place) -> None:
    """TRN-6: the compiler's refusal ends the run, unsigned."""
    (place.directory / "compiler.py").write_text("print('gate: agreement 0.91 < 0.98'); raise SystemExit(4)")
    place.runner().run_once()
    assert "agreement 0.91" in place.state.runs[0].finish["error"]


def test_time_limit(place: Place) -> None:
    """TRN-7: a step that takes too long is ended with everything it started."""
    place.write_config(train_timeout_s="0.5")
    (place.directory / "train.py").write_text(
        "import subprocess, sys, threading\nfrom pathlib import Path\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import threading; threading.Event().wait()'])\n"
        "Path('child').write_text(str(child.pid))\nthreading.Event().wait()"
    )
    place.runner().run_once()
    assert place.state.runs[0].finish["error"].startswith("CommandTimeoutError")
    assert _is_gone(int((place.directory / "child").read_text()))


@pytest.mark.parametrize("away", ["down", "torn"])
def test_progress_keeps_the_claim(place: Place, away: str) -> None:
    """TRN-8: while a step runs, its last line is reported again and again; a server that is away does not end it."""
    wait = "from pathlib import Path\nfrom threading import Event\nprint('epoch 0', flush=True)\n"
    wait += "while not Path('go').exists():\n    Event().wait(0.01)\n"
    (place.directory / "train.py").write_text(wait + (place.directory / "train.py").read_text())
    runner, state, run = place.runner(), place.state, place.state.runs[0]
    working = threading.Thread(target=runner.run_once)
    working.start()
    with state.changed:
        assert state.changed.wait_for(lambda: run.progress.count("train: epoch 0") >= 2, 10)
    setattr(state, away, True)
    before, pause = len(state.requests), threading.Event()
    while len(state.requests) < before + 2 and working.is_alive():
        pause.wait(0.01)
    setattr(state, away, False)
    (place.directory / "go").touch()
    working.join(20)
    assert run.state == "succeeded"


def test_lost_lease_stops_the_runner(place: Place) -> None:
    """TRN-9: when another runner took the run over, this one ends its step and reports nothing more."""
    (place.directory / "train.py").write_text("from threading import Event; print('hours', flush=True); Event().wait()")
    runner, run = place.runner(), place.state.runs[0]
    working = threading.Thread(target=runner.run_once)
    working.start()
    with place.state.changed:
        assert place.state.changed.wait_for(lambda: any("hours" in text for text in run.progress), 10)
    place.state.lease_expired = True
    assert place.state.claim() is not None  # somebody else's
    working.join(10)
    assert not working.is_alive()
    assert (run.state, run.finish) == ("claimed", {})


def test_killed_runner_is_taken_over(place: Place) -> None:
    """TRN-10: after kill -9 in the middle of training, another runner does the run with a higher fence."""
    good = (place.directory / "train.py").read_text()
    (place.directory / "train.py").write_text(
        "from threading import Event; print('slow', flush=True); Event().wait(30)"
    )
    process, run = _start(place), place.state.runs[0]
    with place.state.changed:
        assert place.state.changed.wait_for(lambda: any("slow" in text for text in run.progress), 20)
    process.kill()
    process.communicate()
    place.state.lease_expired = True
    (place.directory / "train.py").write_text(good)
    place.runner().run_once()
    assert (run.state, run.fence) == ("succeeded", 2)


def test_runner_ends_on_its_leash_and_takes_its_step_along(place: Place) -> None:
    """TRN-11: when the server that started it goes away, the runner ends, and so does what it runs."""
    (place.directory / "train.py").write_text(
        "import os\nfrom pathlib import Path\nfrom threading import Event\n"
        "Path('pid').write_text(str(os.getpid())); print('slow', flush=True); Event().wait()"
    )
    process, run = _start(place, "--leash"), place.state.runs[0]
    with place.state.changed:
        assert place.state.changed.wait_for(lambda: any("slow" in text for text in run.progress), 20)
    process.communicate(timeout=10)  # closes its standard input
    assert _is_gone(int((place.directory / "pid").read_text()))


@pytest.mark.parametrize("away", ["down", "torn"])
def test_absent_server_is_asked_again(place: Place, away: str) -> None:
    """TRN-12: a server that does not answer is asked again; the run is done when it is back."""
    setattr(place.state, away, True)
    stop, runner = threading.Event(), place.runner()
    working = threading.Thread(target=runner.work, args=(stop,))
    working.start()
    while len(place.state.requests) < 3 and working.is_alive():
        stop.wait(0.02)
    setattr(place.state, away, False)
    with place.state.changed:
        assert place.state.changed.wait_for(lambda: place.state.runs[0].state == "succeeded", 20)
    stop.set()
    working.join()


def test_token_is_sent_to_this_server_alone(place: Place) -> None:
    """TRN-13: every request carries the token; plain HTTP to another machine is refused, redirects are errors."""
    place.runner().run_once()
    assert {header for _, _, header in place.state.requests} == {f"Bearer {TOKEN}"}
    for url in ("http://fleet.example:8080", "http://127.0.0.1.evil.example", "ftp://127.0.0.1", "127.0.0.1:80"):
        with pytest.raises(RunnerConfigError):
            Api(url, TOKEN)
    with pytest.raises(ApiError):
        Api("http://127.0.0.1:1", TOKEN).claim(["har"])


def test_bad_start_says_why(tmp_path: Path) -> None:
    """TRN-14: a runner without configuration or token ends with status 1, a named error and a hint."""
    token = tmp_path / "token"
    for present in (False, True):
        if present:
            token.write_text(TOKEN)
        ended = subprocess.run(
            [
                sys.executable,
                "-m",
                "outrider_fleet.training",
                "--api",
                "http://127.0.0.1:1",
                "--token-file",
                token,
                "--home",
                tmp_path,
            ],
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
        assert ended.returncode == 1
        assert ended.stderr.startswith("RunnerConfigError")
        assert len(ended.stderr.splitlines()) == 2


def _start(place: Place, *options: str) -> "subprocess.Popen[bytes]":
    (place.directory / "token").write_text(TOKEN + "\n")
    return subprocess.Popen(
        [
            sys.executable,
            "-m",
            "outrider_fleet.training",
            "--api",
            place.server.url,
            "--token-file",
            place.directory / "token",
            "--home",
            place.directory / "home",
            "--config",
            place.directory / "training.toml",
            *options,
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _is_gone(pid: int) -> bool:
    pause = threading.Event()
    for _ in range(250):
        try:
            if " Z " in Path(f"/proc/{pid}/stat").read_text():
                return True
        except FileNotFoundError:
            return True
        pause.wait(0.02)
    os.kill(pid, signal.SIGKILL)
    return False
