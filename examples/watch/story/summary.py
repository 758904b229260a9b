"""What is printed at the end: how long each stage took, the lineage of one prediction, where the page is."""

from __future__ import annotations

from typing import Any

from examples.watch.errors import WatchError
from examples.watch.story.story import Story


def summary(story: Story) -> str:
    """The text; a part that cannot be had is left out, with the reason."""
    lines = ["", "stage" + " " * 72 + "seconds"]
    lines += [f"{title:<76} {took:7.1f}" for title, took in story.tell.took_s.items()]
    try:
        lines += ["", *_lineage(story), "", f"web page: {story.fleet.url}/"]
    except (WatchError, OSError) as error:
        lines += ["", f"no lineage: {error}"]
    return "\n".join(lines)


def _lineage(story: Story) -> list[str]:
    path = story.plan.truth / "feed" / f"{story.plan.named(moves=True)[0]}.jsonl"
    import json

    identifier = json.loads(path.read_text("utf-8").splitlines()[-1])["prediction_id"]
    text = story.fleet.cli("lineage", "prediction", identifier)
    shown: list[Any] = text.strip().splitlines()
    return ["lineage of one prediction:", *shown[:14], *(["…"] if len(shown) > 14 else [])]
