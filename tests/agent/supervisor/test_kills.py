"""What kill -9 and an absent broker leave: executions end right, and no key is used twice."""

from __future__ import annotations

import sqlite3
from contextlib import closing

from tests.agent.supervisor.house import until
from tests.agent.supervisor.world import World


def test_killed_while_downloading_it_resumes(world: World) -> None:
    """AGT-EXE-5: kill -9 in the download; after the start the verified chunks stay and the execution succeeds."""
    artifact = world.artifact("1.0")
    chunks = artifact.chunks()
    model = next(topic for topic, data in chunks.items() if data[:1] == b"\x08")
    world.server.publish({topic: data for topic, data in chunks.items() if topic != model})
    world.server.publish(world.trust.messages())
    world.agent.start()
    seq = world.desired(artifact, parameters={"probation_windows": 3, "probation_s": 0.5})
    world.ended(seq, "downloading")
    world.agent.kill()
    world.server.publish({model: chunks[model]})
    world.agent.start()
    world.ended(seq, "probation")
    # AGT-EXE-3: no traffic is neither success nor failure; the first real inferences end it.
    until(lambda: any(report.detail.get("no_traffic") for report in world.server.reports()), "no_traffic")
    assert world.server.states(seq)[-1] == "probation"
    world.infer(3)
    world.ended(seq, "succeeded")


def test_killed_while_activating_it_resumes(world: World) -> None:
    """AGT-EXE-5: kill -9 once the artifact was committed; the candidate starts again and the execution succeeds."""
    world.agent.start()
    artifact = world.artifact("1.0")
    seq = world.order(artifact)
    update = world.agent.home / "var" / "update.json"
    until(lambda: update.exists() and "activating" in update.read_text(), "activating")
    world.agent.kill()
    world.agent.start()
    world.ended(seq, "probation")
    world.infer(3)
    world.ended(seq, "succeeded")
    assert world.agent.stop() == 0
    assert world.server.states(seq).count("succeeded") == 1


def test_no_key_is_lost_or_used_twice(world: World) -> None:
    """AGT-OUT-2: across the broker's death every key is committed; a lease that died with the agent is a gap."""
    world.agent.start()
    world.install("1.0")
    given = world.infer(25)
    world.broker.kill()
    given += world.infer(25)
    world.broker.start()
    given += world.infer(8)
    until(lambda: set(given) <= committed(world), "everything committed")

    under_lease = world.infer(4)
    world.agent.kill()
    world.agent.start()
    until(lambda: world.status(lambda s: s["attest"]), "the agent serves again")
    after = world.infer(12)
    until(lambda: set(after) <= committed(world), "everything after the restart committed")

    everything = given + under_lease + after
    assert len(set(everything)) == len(everything)
    assert not world.server.duplicates
    assert world.agent.stop() == 0
    assert keys_on_the_device(world) == {(s, seq) for _, s, seq in world.server.batches}


def keys_on_the_device(world: World) -> set[tuple[str, int]]:
    """The live keys of an outbox file, as docs/spec/outbox.md says how to read it."""
    with closing(sqlite3.connect(world.agent.home / "var" / "outbox.db")) as database:
        gaps = set(database.execute("SELECT stream, seq FROM gap"))
        last = dict(database.execute("SELECT name, acked FROM stream"))
        for stream, seq in database.execute("SELECT stream, max(seq) FROM batch GROUP BY stream"):
            last[stream] = max(last[stream], seq)
    return {(stream, seq) for stream, end in last.items() for seq in range(1, end + 1)} - gaps


def committed(world: World) -> set[str]:
    """The prediction ids that the server has."""
    return {
        f"dev-1/{batch.outbox_id}/{batch.seq}/{index}"
        for batch in list(world.server.batches.values())
        if batch.kind == "predictions"
        for index in range(batch.columns["klass"].count)
    }
