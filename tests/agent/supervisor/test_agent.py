"""The agent as it runs: real processes, a real broker, real signatures. Each test leaves a good release serving."""

from __future__ import annotations

import os
import signal

from tests.agent.supervisor.house import Artifact, until
from tests.agent.supervisor.world import World


def current(world: World) -> str:
    found = until(world.status, "status")
    return str(found["update"]["current"]["digest"])


def test_an_order_becomes_a_serving_release(settled: World) -> None:
    """AGT-EXE-1: an order ends as succeeded only after the worker attested it and answered real inferences."""
    way = ["notified", "downloading", "verifying", "staged", "validating", "validating", "activating", "probation"]
    assert settled.server.states(1) == [*way, "succeeded"]
    report = settled.ended(1, "succeeded")
    assert report.detail["attest"]["digest"] == report.digest
    assert report.detail["attest"]["answered"] >= 3
    measured = [r.detail for r in settled.server.reports() if r.state == "validating"][1]
    assert measured["latency_us"] > 0


def test_the_running_release_is_already_installed(settled: World) -> None:
    """AGT-EXE-8: an order for what has succeeded and runs ends at once, and raises the floors."""
    seq = settled.desired(Artifact(settled.directory / "artifact-1.0", "1.0", 1))
    settled.ended(seq, "already_installed")
    until(lambda: settled.status(lambda s: s["floors"]["seq"] == seq), "floors")


def test_a_release_that_fails_its_golden_vectors_changes_nothing(settled: World) -> None:
    """AGT-UPD-9: the load test runs in a child; its failure is failed_unchanged and what runs goes on."""
    before = settled.serving()
    report = settled.ended(settled.order(settled.artifact("2.0", golden_offset=0.5)), "failed_unchanged")
    assert report.detail["error"] == "GoldenMismatchError"
    assert report.detail["hint"]
    settled.infer(2)
    assert settled.serving() == before == current(settled)
    assert report.digest[7:] not in [path.name for path in (settled.agent.home / "var/artifacts").iterdir()]


def test_a_tampered_chunk_is_refused(settled: World) -> None:
    """AGT-UPD-7: a chunk that is not what was signed is refused by name; the release that runs is untouched."""
    before = settled.serving()
    artifact = settled.artifact("2.1", seed=1)
    settled.publish(artifact)
    topic, data = next((t, d) for t, d in artifact.chunks().items() if d[:1] == b"\x08")
    settled.server.publish({topic: data[:-1] + bytes([data[-1] ^ 1])})
    report = settled.ended(settled.desired(artifact), "rejected")
    assert report.detail["error"] == "DigestMismatchError"
    assert settled.serving() == before


def test_an_order_for_another_device_is_refused(settled: World) -> None:
    """AGT-UPD-1: a refusal names the rule that failed, and leaves floors and release as they were."""
    before, floors = settled.serving(), until(settled.status, "status")["floors"]
    seq = settled.order(settled.artifact("2.2", seed=1), fleet="other")
    assert settled.ended(seq, "rejected").detail["error"] == "WrongAudienceError"
    assert settled.serving() == before
    assert until(settled.status, "status")["floors"] == floors


def test_a_disagreeing_candidate_never_serves(settled: World) -> None:
    """AGT-EXE-7: shadow disagreement above the order's limit ends as failed_unchanged, and says how much it was."""
    before = settled.serving()
    limits = {"shadow_windows": 20, "shadow_disagreement_max": 0.2, "probation_windows": 3}
    seq = settled.order(settled.artifact("2.3", seed=5), parameters=limits)
    settled.ended(seq, "shadowing")
    state = until(lambda: settled.status(lambda s: s["attest"]), "a serving worker")
    os.kill(state["attest"]["pid"], signal.SIGKILL)  # AGT-EXE-7: the death of what serves is not the candidate's
    until(lambda: settled.status(lambda s: s["attest"] and s["attest"]["pid"] != state["attest"]["pid"]), "it is back")
    report = settled.infer_until(seq, "failed_unchanged")
    assert report.detail["reason"] == "shadow_disagreement"
    assert report.detail["shadow"]["n"] >= 20
    assert not report.detail["shadow"]["drifted"]
    assert settled.serving() == before
    assert "activating" not in settled.server.states(seq)


def test_an_agreeing_candidate_passes_its_shadow_and_replaces_without_a_refused_request(settled: World) -> None:
    """AGT-SUP-3: the same model under a new version disagrees nowhere; during the swap every request is answered."""
    limits = {"shadow_windows": 10, "shadow_disagreement_max": 0.1, "probation_windows": 3}
    artifact = settled.artifact("2.4")
    seq = settled.order(artifact, parameters=limits)
    settled.infer_until(seq, "succeeded")
    assert settled.ended(seq, "activating").detail["shadow"]["disagree"] == 0
    until(lambda: settled.serving() == artifact.digest, "new digest serves")
    until(lambda: settled.server.reported("dev-1").digest == artifact.digest, "reported digest")


def test_a_candidate_that_dies_in_probation_is_rolled_back(settled: World) -> None:
    """AGT-EXE-4: the last succeeded release serves again, from the worker that was held."""
    before = settled.serving()
    artifact = settled.artifact("2.5", seed=1)
    seq = settled.order(artifact)
    settled.ended(seq, "probation")
    state = until(lambda: settled.status(lambda s: s["digest"] == artifact.digest and s["attest"]), "candidate serves")
    os.kill(state["attest"]["pid"], signal.SIGKILL)
    assert "status -9" in settled.ended(seq, "rolled_back").detail["message"]
    settled.infer(2)
    assert settled.serving() == before == current(settled)


def test_an_order_that_supersedes_probation_returns_to_the_last_succeeded(settled: World) -> None:
    """AGT-EXE-6: 2.6 is on probation when 2.7 is ordered: the succeeded one serves, and stays the one to return to."""
    before = settled.serving()
    first = settled.order(settled.artifact("2.6", seed=1))
    settled.ended(first, "probation")
    second = settled.order(settled.artifact("2.7", seed=2))
    settled.ended(first, "superseded")
    settled.ended(second, "probation")
    assert current(settled) == before
    settled.infer(3)
    settled.ended(second, "succeeded")
    assert until(settled.status, "status")["update"]["previous"]["digest"] == before


def test_an_order_to_return_ends_a_probation_at_once(settled: World) -> None:
    """AGT-EXE-8: ordered back to the last succeeded release, the device rolls back and says that it runs already."""
    before = until(settled.status, "status")["update"]["current"]
    candidate = settled.order(settled.artifact("2.8", seed=1))
    settled.ended(candidate, "probation")
    seq = settled.desired(Artifact(settled.directory / f"artifact-{before['release']}", before["release"], 1))
    settled.ended(candidate, "superseded")
    settled.ended(seq, "already_installed")
    assert settled.serving() == before["digest"]
