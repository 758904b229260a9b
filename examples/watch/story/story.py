"""The nine stages, in order; what does not depend on each other runs side by side.

1. Nothing is judged here: `examples.watch.checker` does that afterwards, from what the run left behind.
2. A stage that does not reach its end raises `StageError`; the checker then still judges what is there.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

from examples.watch.data import CLASSES
from examples.watch.errors import StageError
from examples.watch.story.devices import Devices
from examples.watch.story.fleet import Fleet
from examples.watch.story.plan import BAD, EXACT, FAST, FIRST, GOOD, MODEL, Plan
from examples.watch.story.processes import Processes, eventually
from examples.watch.story.releases import Releases, flipped, publish_chunk
from examples.watch.story.saboteur import Saboteur
from examples.watch.story.telling import Teller
from examples.watch.story.wearing import Wearing

T = TypeVar("T")
BASELINE = 115
LATER_MAX, LATER_STEP = 119, 12
QUIET_MAX = 48
SHADOW, PROBATION, CHECKED = 16, 8, 48
TRIALS = {"shadowing": (SHADOW + 1, 1.5), "probation": (PROBATION + 1, 0.0)}
OUTAGE_S = 3.0
ROLLOUT_S = 120.0
RETRAIN_S = 300.0
SETTLE_S = 60.0
FAILURES = {"max_ratio": 0.2, "min_sample": 2}
DISAGREEMENT = {"max_ratio": 0.4, "min_sample": 2 * SHADOW}
POLICY: dict[str, dict[str, Any]] = {
    "drift": {"min_share": 0.3, "min_devices": 4, "min_alarmed": 3, "min_labels": 60},
    "labelled_check": {"min_labels": CHECKED, "min_accuracy": 0.5},
    "rollout": {
        "group": "all",
        "phases": [{"name": "canary", "max_devices": 2}, {"name": "all", "percent": 100}],
        "gates": {"failures": FAILURES, "shadow": DISAGREEMENT},
        "parameters": {
            "shadow_windows": SHADOW,
            "shadow_disagreement_max": DISAGREEMENT["max_ratio"],
            "probation_windows": PROBATION,
        },
    },
}


@dataclass
class Trial:
    """One device's shadowing or probation: what it still asks for, from a while after it has begun."""

    wanted: int
    begins_after_s: float
    since_s: float = 0.0
    turns: int = 0

    def next(self, now_s: float) -> int:
        """As many windows as the trial needs, four at a time; then one now and then, for those that came too early."""
        self.since_s, self.turns = self.since_s or now_s, self.turns + 1
        if now_s - self.since_s < self.begins_after_s:
            return 0
        amount = min(self.wanted, 4) or int(self.turns % 4 == 0)
        self.wanted = max(0, self.wanted - amount)
        return amount


@dataclass
class Story:
    """One run of the story."""

    plan: Plan
    processes: Processes
    fleet: Fleet
    devices: Devices
    releases: Releases
    saboteur: Saboteur
    tell: Teller
    pool: ThreadPoolExecutor
    _candidates: Future[None] = field(init=False)

    @classmethod
    def of(cls, plan: Plan, processes: Processes, pool: ThreadPoolExecutor) -> Story:
        """Everything that a run needs, nothing started yet."""
        saboteur = Saboteur(plan)
        return cls(
            plan,
            processes,
            Fleet(plan, processes),
            Devices(plan, processes, saboteur.sampled()),
            Releases(plan, saboteur.profiles()),
            saboteur,
            Teller(),
            pool,
        )

    def run(self) -> None:
        """Tell it to the end; raises `StageError`."""
        with self.tell.stage("1–2  train 1.0, compile it for three boards; meanwhile server and devices start"):
            wearing = self._prepare()
        try:
            self._live(wearing)
        finally:
            wearing.close()

    def _live(self, wearing: Wearing) -> None:
        with self.tell.stage("3–4  publish 1.0; tampered copies are refused"):
            self._publish_first()
        with self.tell.stage("5    roll out 1.0 in phases; baselines; the broker dies"):
            self._first_rollout(wearing)
            self._baselines(wearing)
        with self.tell.stage("6    four devices change wrists"):
            self._move(wearing)
        with self.tell.stage("7–8  labels, retraining by policy; meanwhile a bad candidate"):
            self._label(wearing)
            self._bad_candidate(wearing)
            self._await_good()
        with self.tell.stage("8    1.1: canary, then all"):
            self._good_rollout(wearing)
        with self.tell.stage("9    labelled check; everything settles"):
            self._check_labelled(wearing)
            self._settle()

    # ------------------------------------------------------------ 1 and 2

    def _prepare(self) -> Wearing:
        server = self.pool.submit(self._server_and_devices)
        self.releases.train(FIRST, *self.saboteur.training_options())
        self.tell.say("trained 1.0 on the right wrists of the six")
        server.result()
        self.releases.build(FIRST, FIRST, self.plan.release(FIRST), self.releases.profiles)
        self.tell.say(f"compiled 1.0: {_choices(self.plan)}")
        self._candidates = self.pool.submit(self._other_candidates)
        return Wearing(self.plan)

    def _server_and_devices(self) -> None:
        self.fleet.initialise()
        self.fleet.train_with(*self.saboteur.retraining(), profiles=(FAST, EXACT))
        self.fleet.up()
        self.tell.say(f"fleet server at {self.fleet.url}")
        list(self.pool.map(self._device, self.plan.watches))
        self.tell.say(f"{len(self.plan.watches)} devices enrolled, each with its own key and certificate")

    def _device(self, watch: Any) -> None:
        self.devices.enrol(self.fleet, watch)
        self.devices.start(watch.name)

    def _other_candidates(self) -> None:
        """Beside the next stages, on one core: what must not disturb the measurements of 1.0."""
        self._broken()
        self._bad()

    def _broken(self) -> None:
        calibration = self.releases.break_calibration(FIRST, self.saboteur.calibration_factor())
        self.releases.build(FIRST, FIRST, self.plan.root / "broken", (FAST,), calibration)
        self.tell.say("compiled once more, from calibration data in the wrong unit")

    def _bad(self) -> None:
        self.releases.train(BAD, "--shuffle")
        self.releases.build(BAD, BAD, self.plan.release(BAD), (FAST, EXACT))
        self.tell.say("a candidate with shuffled labels has passed its own gate")

    # ------------------------------------------------------------ 3 and 4

    def _publish_first(self) -> None:
        role = self.releases.sign(FIRST, self.fleet)
        said = self.releases.refused_by_server(FIRST, self.fleet, role, FAST)
        self.tell.say(f"tampered copy: {said[:90]}")
        self.releases.publish(FIRST, self.fleet, role)
        self._tampered_chunk()

    def _tampered_chunk(self) -> None:
        """Somebody changes a chunk at the broker; a device is told to install it, and refuses."""
        victim = next(watch.name for watch in self.plan.watches if watch.profile == EXACT and watch.moves)
        digest, data = self.releases.model_blob(FIRST, EXACT)
        publish_chunk(self.fleet, digest, flipped(data[:1000]) + data[1000:])
        try:
            self.fleet.post("/groups", {"name": "victim", "kind": "static", "devices": [victim]})
            rollout = self._start_rollout(FIRST, "victim", [{"name": "all", "percent": 100}], {}, {})
            state = self._await(lambda: self._execution_end(rollout, victim), "the device refuses the chunk", 30)
        finally:
            publish_chunk(self.fleet, digest, data)
        self.tell.say(f"tampered chunk: {victim} says {state}")

    def _execution_end(self, rollout: str, device: str) -> str:
        for row in self.fleet.rollout(rollout)["executions"]:
            if row["device"] == device and row["error"]:
                return f"{row['state']} ({row['error']})"
        return ""

    # ------------------------------------------------------------ 5

    def _first_rollout(self, wearing: Wearing) -> None:
        phases = [{"name": "canary", "max_devices": self.saboteur.canary()}, {"name": "all", "percent": 100}]
        rollout = self._start_rollout(FIRST, "all", phases, {"failures": FAILURES}, {"probation_windows": PROBATION})
        self._feed_until(wearing, rollout, "baseline")

    def _baselines(self, wearing: Wearing) -> None:
        amounts = self._missing(wearing, BASELINE)
        death = self.pool.submit(self._outage)
        wearing.feed("baseline", amounts)
        from_ms, until_ms = death.result()
        with (self.plan.truth / "outages.jsonl").open("a") as file:
            file.write(json.dumps({"from_ms": from_ms, "until_ms": until_ms}) + "\n")
        self.tell.say(f"the broker was dead for {(until_ms - from_ms) / 1000:.1f} s; the devices went on")

    def _outage(self) -> tuple[int, int]:
        time.sleep(0.5)
        return self.fleet.kill_broker(OUTAGE_S)

    def _missing(self, wearing: Wearing, wanted: int) -> dict[str, int]:
        return {watch.name: wanted - len(wearing.fed(watch.name)) for watch in self.plan.watches}

    # ------------------------------------------------------------ 6

    def _move(self, wearing: Wearing) -> None:
        moved, early = self.plan.named(moves=True), self.saboteur.left_too_early()
        for start in range(0, LATER_MAX, LATER_STEP):
            step = min(LATER_STEP, LATER_MAX - start)
            quiet = [name for name in self.plan.named(moves=False) if start < QUIET_MAX or name in early]
            wearing.feed("later", dict.fromkeys([*moved, *quiet], step), left=[*moved, *early])
            alarmed = self._alarmed()
            if set(moved) | set(early) <= alarmed:
                break
        self._await(lambda: len(self._alarmed()) >= 3, "three devices in alarm", SETTLE_S)
        self.tell.say(f"in alarm: {', '.join(sorted(self._alarmed()))}")

    def _alarmed(self) -> set[str]:
        return {name for name, row in self.fleet.devices().items() if row["phase"] == "alarm"}

    # ------------------------------------------------------------ 7 and 8

    def _label(self, wearing: Wearing) -> None:
        """The labelling people say what their windows showed since the move; the server's policy does the rest."""
        self._candidates.result()
        self.releases.publish(BAD, self.fleet, self.releases.sign(BAD, self.fleet))
        policy = self.plan.root / "policy.json"
        policy.write_text(json.dumps(POLICY, indent=1))
        self.fleet.cli("policy", "set", MODEL, "--autonomy", "automatic", "--spec", policy)
        self._drained([w.name for w in self.plan.watches if w.person in self.saboteur.taught_by()])
        taught = [w.name for w in self.plan.watches if w.person in self.saboteur.taught_by()]
        self._import("train", {name: wearing.fed(name) for name in taught}, ("later",))
        self._await(lambda: self.fleet.get("/runs"), "the policy starts a run", SETTLE_S)
        self.tell.say(f"the server's policy asked for a retraining: {self._run()['reason']['why']}")

    def _run(self) -> dict[str, Any]:
        runs = self.fleet.get("/runs")
        rows = runs["items"] if isinstance(runs, dict) else runs
        return dict(rows[0])

    def _import(self, use: str, fed: dict[str, list[dict[str, Any]]], parts: tuple[str, ...]) -> None:
        labels = [
            {
                "prediction_id": row["prediction_id"],
                "label": CLASSES[row["klass"]],
                "source": f"{row['recording'][:3]}/{row['recording']}",
                "use": use,
            }
            for rows in fed.values()
            for row in rows
            if row["part"] in parts and row["prediction_id"]
        ]
        path = self.plan.root / f"labels-{use}.json"
        path.write_text(json.dumps(labels))
        self.fleet.cli("label", "import", path, "--model", MODEL)
        self.tell.say(f"{len(labels)} labels imported ({use})")

    def _bad_candidate(self, wearing: Wearing) -> None:
        spec = POLICY["rollout"]
        shadowless = self.saboteur.breaks("D11")
        gates = {"failures": FAILURES} if shadowless else spec["gates"]
        parameters = {"probation_windows": PROBATION} if shadowless else spec["parameters"]
        rollout = self._start_rollout(BAD, "all", spec["phases"], gates, parameters)
        self._feed_until(wearing, rollout, "shadow")
        self.tell.say(f"bad candidate: {self.fleet.rollout(rollout)['state']}: {self._why(rollout)}")
        wearing.feed("after", dict.fromkeys((watch.name for watch in self.plan.watches), 2))

    def _await_good(self) -> None:
        def finished() -> dict[str, Any] | None:
            run = self._run()
            if run["state"] == "failed":
                raise StageError(f"the training run failed: {run['result']}")
            return run if run["rollout"] else None

        run = self._await(finished, "the retraining publishes 1.1 and its rollout starts", RETRAIN_S, 0.3)
        self.tell.say(f"{run['id']} made {run['version']}: {json.dumps((run['result'] or {}).get('figures', {}))}")

    def _good_rollout(self, wearing: Wearing) -> None:
        rollout = str(self._run()["rollout"])
        self._feed_until(wearing, rollout, "shadow")
        self.tell.say(f"{GOOD}: {self.fleet.rollout(rollout)['state']}: {self._why(rollout)}")

    # ------------------------------------------------------------ 9

    def _check_labelled(self, wearing: Wearing) -> None:
        moved = self.plan.named(moves=True)
        counts = {name: len(wearing.fed(name)) for name in moved}
        wearing.feed("after", dict.fromkeys(moved, CHECKED), left=moved)
        self._drained(moved)
        if not self.saboteur.breaks("D13"):
            self._import("check", {name: wearing.fed(name)[counts[name] :] for name in moved}, ("after",))
        self._await(lambda: self._cleared(moved), "the moved devices are cleared by the labelled check", SETTLE_S)

    def _cleared(self, moved: list[str]) -> bool:
        rows = self.fleet.devices()
        return all(rows[name]["phase"] in ("baseline", "watching") for name in moved)

    def _settle(self) -> None:
        """Wait until every device has handed over everything and says what it runs."""
        self._drained([watch.name for watch in self.plan.watches])
        if self.saboteur.breaks("D5"):
            self.saboteur.alter_installed(self.plan.watches[0].name)
        if self.saboteur.breaks("D8"):
            self.saboteur.lose_batch()

    def _drained(self, devices: list[str]) -> None:
        self._await(lambda: all(self.devices.waiting(name) == 0 for name in devices), "outboxes are empty", SETTLE_S)

    def _await(self, look: Callable[[], T | None], what: str, timeout_s: float, pause_s: float = 0.1) -> T:
        """`eventually`, while every process lives."""

        def looked() -> T | None:
            self.processes.check()
            return look()

        return eventually(looked, what, timeout_s, pause_s)

    # ------------------------------------------------------------ rollouts

    def _start_rollout(
        self, version: str, group: str, phases: list[Any], gates: dict[str, Any], parameters: dict[str, Any]
    ) -> str:
        spec = self.plan.root / f"rollout-{version}-{group}.json"
        spec.write_text(json.dumps({"phases": phases, "gates": gates, "parameters": parameters}))
        said = self.fleet.cli("rollout", "create", MODEL, version, "--group", group, "--spec", spec, "--json")
        return str(json.loads(said)["id"])

    def _why(self, rollout: str) -> str:
        return self.fleet.cli("why", rollout).strip().replace("\n", " ")[:150]

    def _feed_until(self, wearing: Wearing, rollout: str, part: str, timeout_s: float = ROLLOUT_S) -> None:
        """Give windows to the devices on trial until the rollout has ended; few more than the trial asks for."""
        deadline, trials = time.monotonic() + timeout_s, dict[tuple[str, str], Trial]()
        moved = set(self.plan.named(moves=True)) if part != "baseline" else set[str]()
        while (state := self.fleet.rollout(rollout)["state"]) in ("running", "proposed"):
            self.processes.check()
            if time.monotonic() > deadline:
                raise StageError(f"rollout {rollout} is {state} after {timeout_s:.0f} s: {self._why(rollout)}")
            amounts = self._asked_for(trials)
            wearing.feed(part, amounts, left=moved & set(amounts))
            time.sleep(0.1)

    def _asked_for(self, trials: dict[tuple[str, str], Trial]) -> dict[str, int]:
        """How many windows each device on trial gets now."""
        amounts: dict[str, int] = {}
        for watch in self.plan.watches:
            stage = self.devices.stage(watch.name)
            if stage in TRIALS:
                trial = trials.setdefault((watch.name, stage), Trial(*TRIALS[stage]))
                amounts[watch.name] = trial.next(time.monotonic())
        return amounts


def _choices(plan: Plan) -> str:
    report = json.loads((plan.release(FIRST) / "report.json").read_bytes())
    return ", ".join(f"{name}: {part['chosen'] or part['status']}" for name, part in report["profiles"].items())
