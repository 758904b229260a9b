"""Who is who in a run: people, devices, versions, profiles; written to `truth/plan.json` before anything starts.

A run's directory holds `fleet`, `offline`, `pipeline`, `devices/<device>`, `train/<what>`, `release/<version>`,
`broken`, `truth` and `logs`.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from examples.watch.data import Roles, roles

MODEL = "har"
ROOT = Path(__file__).resolve().parents[3]
FIRST, BAD, GOOD = "1.0", "1.1-shuffled", "1.1"
FAST, EXACT, LITERT = "x86-64-vnni", "x86-64", "raspberry-pi-5"
COUNTERS = {FIRST: 1, BAD: 2}


@dataclass(frozen=True)
class Watch:
    """One device: whose wrist it is on, whether it changes wrists later, which board it is."""

    name: str
    person: int
    moves: bool
    profile: str


@dataclass(frozen=True)
class Plan:
    """One run: its directory, its seed, and what is broken in it on purpose."""

    root: Path
    seed: int
    broken: str = ""

    @property
    def fleet(self) -> Path:
        return self.root / "fleet"

    @property
    def offline(self) -> Path:
        return self.root / "offline"

    @property
    def truth(self) -> Path:
        return self.root / "truth"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def key(self) -> Path:
        """The release pipeline's private key."""
        return self.root / "pipeline" / "har.pem"

    def home(self, device: str) -> Path:
        return self.root / "devices" / device

    def trained(self, what: str) -> Path:
        return self.root / "train" / what

    def release(self, what: str) -> Path:
        return self.root / "release" / what

    @property
    def roles(self) -> Roles:
        return roles(self.seed)

    @property
    def watches(self) -> tuple[Watch, ...]:
        """Two devices for each held-out person: one stays on the right wrist, one moves."""
        boards = {person: (FAST, EXACT)[place % 2] for place, person in enumerate(self.roles.held_out)}
        return tuple(
            Watch(f"p{person:02d}-{'moves' if moves else 'stays'}", person, moves, board)
            for person, board in boards.items()
            for moves in (False, True)
        )

    def named(self, *, moves: bool) -> list[str]:
        """The devices that move, or those that stay."""
        return [watch.name for watch in self.watches if watch.moves is moves]

    def begin(self) -> None:
        """Make an empty run directory and write the plan into it."""
        shutil.rmtree(self.root, ignore_errors=True)
        for directory in (self.truth / "feed", self.logs, self.key.parent, self.root / "train", self.root / "release"):
            directory.mkdir(parents=True)
        told = {
            "seed": self.seed,
            "roles": {name: list(people) for name, people in asdict(self.roles).items()},
            "versions": {"first": FIRST, "bad": BAD, "good": GOOD},
            "profiles": {"fast": FAST, "exact": EXACT, "litert": LITERT},
            "devices": {w.name: {"person": w.person, "moves": w.moves, "profile": w.profile} for w in self.watches},
        }
        (self.truth / "plan.json").write_text(json.dumps(told, indent=1) + "\n")
