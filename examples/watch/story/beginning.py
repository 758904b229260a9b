"""Stages 1 to 4: a model, a server, eight devices, and a release that nobody could tamper with."""

from __future__ import annotations

import json
from concurrent.futures import Future

from examples.watch.story import rollouts
from examples.watch.story.cast import Cast
from examples.watch.story.plan import BAD, EXACT, FAST, FIRST, Plan, Watch
from examples.watch.story.releases import flipped, publish_chunk
from examples.watch.story.rules import EVERYONE, REFUSAL_S


def prepare(cast: Cast) -> Future[None]:
    """Train and compile 1.0; server and devices start meanwhile. What is returned makes the other candidates."""
    server = cast.pool.submit(_server_and_devices, cast)
    cast.releases.train(FIRST, *cast.saboteur.training_options())
    cast.tell.say("trained 1.0 on the right wrists of the six")
    server.result()  # nothing disturbs the measurements of 1.0
    cast.releases.build(FIRST, FIRST, cast.plan.release(FIRST), cast.releases.profiles)
    cast.tell.say(f"compiled 1.0: {_choices(cast.plan)}")
    return cast.pool.submit(_other_candidates, cast)


def _server_and_devices(cast: Cast) -> None:
    cast.fleet.initialise()
    cast.fleet.train_with(*cast.saboteur.retraining(), profiles=(FAST, EXACT))
    cast.fleet.up()
    cast.tell.say(f"fleet server at {cast.fleet.url}")
    list(cast.pool.map(lambda watch: _device(cast, watch), cast.plan.watches))
    cast.tell.say(f"{len(cast.plan.watches)} devices enrolled, each with its own key and certificate")


def _device(cast: Cast, watch: Watch) -> None:
    cast.devices.enrol(cast.fleet, watch)
    cast.devices.start(watch.name)


def _choices(plan: Plan) -> str:
    report = json.loads((plan.release(FIRST) / "report.json").read_bytes())
    return ", ".join(f"{name}: {part['chosen'] or part['status']}" for name, part in report["profiles"].items())


def _other_candidates(cast: Cast) -> None:
    """Beside the next stages, both at once: there the processes wait more than they work."""
    broken = cast.pool.submit(_broken_calibration, cast)
    cast.releases.train(BAD, "--shuffle")
    cast.releases.build(BAD, BAD, cast.plan.release(BAD), (FAST, EXACT))
    cast.tell.say("a candidate with shuffled labels has passed its own gate")
    broken.result()


def _broken_calibration(cast: Cast) -> None:
    calibration = cast.releases.break_calibration(FIRST, cast.saboteur.calibration_factor())
    cast.releases.build(FIRST, FIRST, cast.plan.root / "broken", (FAST,), calibration)
    cast.tell.say("compiled once more, from calibration data in the wrong unit")


def publish_first(cast: Cast) -> None:
    """Sign and publish 1.0, after the server has refused a tampered copy; then a device refuses one."""
    role = cast.releases.sign(FIRST, cast.fleet)
    said = cast.releases.refused_by_server(FIRST, cast.fleet, role, FAST)
    cast.tell.say(f"tampered copy: {said[:90]}")
    cast.releases.publish(FIRST, cast.fleet, role)
    _tampered_chunk(cast)


def _tampered_chunk(cast: Cast) -> None:
    """Somebody changes a chunk at the broker; a device is told to install it, and refuses."""
    victim = next(watch.name for watch in cast.plan.watches if watch.profile == EXACT and watch.moves)
    digest, data = cast.releases.model_blob(FIRST, EXACT)
    publish_chunk(cast.fleet, digest, flipped(data[:1000]) + data[1000:])
    try:
        cast.fleet.post("/groups", {"name": "victim", "kind": "static", "devices": [victim]})
        rollout = rollouts.start(cast, FIRST, "victim", {"phases": [EVERYONE], "gates": {}, "parameters": {}})
        said = cast.wait(lambda: _refusal(cast, rollout, victim), "the device refuses the chunk", REFUSAL_S)
    finally:
        publish_chunk(cast.fleet, digest, data)
    cast.tell.say(f"tampered chunk: {victim} says {said}")


def _refusal(cast: Cast, rollout: str, device: str) -> str:
    rows = [row for row in cast.fleet.rollout(rollout)["executions"] if row["device"] == device and row["error"]]
    return f"{rows[0]['state']} ({rows[0]['error']})" if rows else ""
