"""What is printed at the end: how long each stage took, the lineage of one prediction, where the page is."""

from __future__ import annotations

import json
import time

from examples.watch.errors import WatchError
from examples.watch.story.cast import Cast


def summary(cast: Cast) -> str:
    """Write `summary.json` and return the text; a part that cannot be had is left out, with the reason."""
    whole_s = time.monotonic() - cast.tell.began_s
    told = {"seconds": round(whole_s, 1), "stages": {name: round(s, 1) for name, s in cast.tell.took_s.items()}}
    (cast.plan.root / "summary.json").write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n")
    lines = ["", f"{'stage':<80} seconds"]
    lines += [f"{title:<80} {took_s:7.1f}" for title, took_s in (*cast.tell.took_s.items(), ("whole", whole_s))]
    try:
        lines += ["", *_lineage(cast), "", f"web page: {cast.fleet.url}/"]
    except (WatchError, OSError) as error:
        lines += ["", f"no lineage: {error}"]
    return "\n".join(lines)


def _lineage(cast: Cast) -> list[str]:
    path = cast.plan.truth / "feed" / f"{cast.plan.named(moves=True)[0]}.jsonl"
    identifier = json.loads(path.read_text("utf-8").splitlines()[-1])["prediction_id"]
    text = cast.fleet.cli("lineage", "prediction", identifier)
    shown = text.strip().splitlines()
    return ["lineage of one prediction:", *shown[:14], *(["…"] if len(shown) > 14 else [])]
