"""What `BREAK=Dn` breaks: one real thing for each claim, never the checker.

Each answer below is asked for at the one place in the story that it changes.
"""

from __future__ import annotations

import re
import shutil
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from examples.watch.story.plan import EXACT, FAST, LITERT, Plan
from examples.watch.story.releases import UNSCALED, flipped

CLAIMS = tuple(f"D{number}" for number in range(1, 15))
WHAT = {
    "D1": "left wrists are in the training set",
    "D2": "the fast board's profile allows no int8",
    "D3": "the exact board's profile allows fp32 alone",
    "D4": "the broken calibration data is the good one",
    "D5": "a model file on a device is altered after it was installed",
    "D6": "the canary is three devices wide",
    "D7": "a device is set back to its state before 1.1",
    "D8": "the server loses a batch that it has acknowledged",
    "D9": "a device that stays is worn on the left wrist",
    "D10": "an evaluating person's windows are labelled for training",
    "D11": "the bad candidate is sent without shadow",
    "D12": "the retraining ignores its snapshot",
    "D13": "nobody labels what 1.1 answered",
    "D14": "the training command forgets one person's recordings",
}
FP32_ONLY = 'precisions = ["fp32"]'


@dataclass(frozen=True)
class Saboteur:
    """Says for each place of the story whether, and how, it is broken."""

    plan: Plan

    def breaks(self, claim: str) -> bool:
        """Whether this run breaks that claim."""
        return self.plan.broken == claim

    def training_options(self) -> tuple[str, ...]:
        """D1: options of the first training."""
        return ("--both-wrists",) if self.breaks("D1") else ()

    def profiles(self) -> tuple[str, ...]:
        """D2 and D3: the boards to build for; a board's own file where it is changed."""
        worse = {"D2": FAST, "D3": EXACT}.get(self.plan.broken)
        return tuple(str(self._without_int8(name)) if name == worse else name for name in (FAST, EXACT, LITERT))

    def calibration_factor(self) -> float:
        """D4: how wrong the unit of the broken calibration data is."""
        return 1.0 if self.breaks("D4") else UNSCALED

    def canary(self) -> int:
        """D6: how many devices the first rollout's canary holds."""
        return 3 if self.breaks("D6") else 2

    def retraining(self) -> tuple[str, ...]:
        """D12 and D14: what the training runner runs, instead of the training itself."""
        bad = {"D12": "--ignore-snapshot", "D14": "--forget-person"}.get(self.plan.broken)
        return ("-m", "examples.watch.story.bad_training", bad) if bad else ("-m", "examples.watch.train")

    def sampled(self) -> frozenset[int]:
        """D10: whose raw windows may leave their devices, and are labelled for training."""
        return frozenset(self.plan.roles.held_out if self.breaks("D10") else self.plan.roles.label)

    def left_too_early(self) -> list[str]:
        """D9: devices that change wrists although they are said to stay."""
        stay = [w.name for w in self.plan.watches if not w.moves and w.person in self.plan.roles.evaluate]
        return stay[:1] if self.breaks("D9") else []

    def alter_installed(self) -> None:
        """D5: flip one bit of an installed model."""
        path = next((self.plan.home(self.victim) / "var/artifacts").glob("*/model.onnx"))
        path.write_bytes(flipped(path.read_bytes()))

    @property
    def victim(self) -> str:
        """The device that is harmed at the end."""
        return self.plan.named(moves=False)[-1]

    def remember_state(self) -> None:
        """D7: keep the device's update.json as it was before 1.1."""
        shutil.copy(self._state, self.plan.root / "former-update.json")

    def set_back(self) -> None:
        """D7: put it back, as a restored disk image would."""
        shutil.copy(self.plan.root / "former-update.json", self._state)

    @property
    def _state(self) -> Path:
        return self.plan.home(self.victim) / "var/update.json"

    def lose_batch(self) -> None:
        """D8: forget one batch of predictions and its rows."""
        with closing(sqlite3.connect(self.plan.fleet / "fleet.db", timeout=30)) as database, database:
            sql = "SELECT device, outbox_id, seq FROM batches WHERE kind = 'predictions' ORDER BY received_ms LIMIT 1"
            key = database.execute(sql).fetchone()
            for table, stream in (("batches", " AND stream = 'bulk'"), ("predictions", "")):
                where = f"device = ? AND outbox_id = ? AND seq = ?{stream}"
                database.execute(f"DELETE FROM {table} WHERE {where}", key)  # noqa: S608 - constants

    def _without_int8(self, name: str) -> Path:
        from importlib.resources import files

        text = files("outrider_profiles").joinpath("boards", f"{name}.toml").read_text("utf-8")
        path = self.plan.root / f"{name}.toml"
        path.write_text(re.sub(r"(?m)^precisions = .*$", FP32_ONLY, text, count=1))
        return path
