"""The nine stages, in order; what does not depend on each other runs side by side.

1. Nothing is judged here: `examples.watch.checker` does that afterwards, from what the run left behind.
2. A stage that does not reach its end raises `StageError`; the checker then still judges what is there.
"""

from __future__ import annotations

from concurrent.futures import Future

from examples.watch.story import beginning, field, learning
from examples.watch.story.cast import Cast
from examples.watch.story.wearing import Wearing


def tell(cast: Cast) -> None:
    """Tell it to the end; raises `StageError`."""
    with cast.tell.stage("1–2  train 1.0, compile it for three boards; meanwhile server and devices start"):
        candidates = beginning.prepare(cast)
        wearing = Wearing(cast.plan)
    try:
        _live(cast, wearing, candidates)
    finally:
        wearing.close()


def _live(cast: Cast, wearing: Wearing, candidates: Future[None]) -> None:
    stage = cast.tell.stage
    with stage("3–4  publish 1.0; tampered copies are refused"):
        beginning.publish_first(cast)
    with stage("5    roll out 1.0 in phases; baselines; the broker dies"):
        field.first_rollout(cast, wearing)
        field.baselines(cast, wearing)
    with stage("6    four devices change wrists"):
        field.move(cast, wearing)
    with stage("7–8  labels, retraining by policy; meanwhile a bad candidate"):
        learning.label(cast, wearing, candidates)
        learning.bad_candidate(cast, wearing)
        rollout = learning.await_good(cast)
    with stage("8    1.1: canary, then all"):
        learning.good_rollout(cast, wearing, rollout)
    with stage("9    labelled check; everything settles"):
        learning.left_behind(cast, wearing)
        learning.check_labelled(cast, wearing)
        learning.settle(cast)
