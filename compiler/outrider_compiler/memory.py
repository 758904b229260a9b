"""How much memory a candidate takes once it is loaded and has answered: read in a fresh process.

`python -m outrider_compiler.memory '{"file": …, "engine": …, "prepack": …}'` prints the bytes by which loading raised
the resident memory.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from outrider_compiler.candidate import Candidate
from outrider_compiler.errors import UnsupportedModelError
from outrider_profiles import Load, Profile

TIMEOUT_S: Final = 120


def resident(candidate: Candidate, profile: Profile) -> int:
    """Bytes; raises `UnsupportedModelError` where the engine does not survive the model."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / candidate.title
        path.write_bytes(candidate.data)
        task = {"file": str(path), "engine": candidate.engine, "prepack": profile.load.prepack}
        command = [sys.executable, "-m", "outrider_compiler.memory", json.dumps(task)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    if done.returncode != 0:
        raise UnsupportedModelError(f"{candidate.name}: its memory could not be measured: {done.stderr.strip()[-200:]}")
    return int(done.stdout)


def main() -> None:
    """Load, answer once, print."""
    import numpy as np

    from outrider_compiler import engines

    task = json.loads(sys.argv[1])
    engines.warm_up(task["engine"])
    before = _resident_bytes()
    data = Path(task["file"]).read_bytes()
    runner = engines.load(Candidate("measured", "fp32", task["engine"], data), Load("default", task["prepack"]))
    runner.once({spec.name: np.zeros([max(n, 1) for n in spec.shape], spec.dtype) for spec in runner.inputs})
    print(max(_resident_bytes() - before, 0))


def _resident_bytes() -> int:
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0


if __name__ == "__main__":
    main()
