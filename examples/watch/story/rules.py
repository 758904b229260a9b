"""The numbers of the story: how many windows, how long to wait, which gates and which policy."""

from __future__ import annotations

from typing import Any

BASELINE = 115
"""Windows of a device's own baseline: what the agent takes unless it is told otherwise."""
LATER_MAX, LATER_STEP = 119, 12
QUIET_MAX = 48
SHADOW, PROBATION, CHECKED = 16, 8, 48
TRIALS = {"shadowing": (SHADOW + 1, 1.5), "probation": (PROBATION + 1, 0.0)}
"""Stage → windows that the trial needs, and seconds until the candidate listens."""
OUTAGE_S = 3.0
REFUSAL_S = 60.0
ROLLOUT_S = 120.0
RETRAIN_S = 300.0
SETTLE_S = 60.0
FAILURES = {"max_ratio": 0.2, "min_sample": 2}
DISAGREEMENT = {"max_ratio": 0.4, "min_sample": 2 * SHADOW}
EVERYONE = {"name": "all", "percent": 100}
POLICY: dict[str, dict[str, Any]] = {
    "drift": {"min_share": 0.3, "min_devices": 4, "min_alarmed": 3, "min_labels": 60},
    "labelled_check": {"min_labels": CHECKED, "min_accuracy": 0.5},
    "rollout": {
        "group": "all",
        "phases": [{"name": "canary", "max_devices": 2}, EVERYONE],
        "gates": {"failures": FAILURES, "shadow": DISAGREEMENT},
        "parameters": {
            "shadow_windows": SHADOW,
            "shadow_disagreement_max": DISAGREEMENT["max_ratio"],
            "probation_windows": PROBATION,
        },
    },
}
