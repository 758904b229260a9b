"""Device certificates a second: `python -m examples.bench.certificates`.

An authority is made in a temporary directory and signs requests of devices, one after the other in one process: once
the signing alone, once the whole renewal as the server does it (request checked, key compared, row and audit entry
committed to SQLite with `synchronous=FULL`). The figure is per second of CPU time of that process: what a core gives.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from outrider_fleet.app import enrol, renew, tokens
from outrider_fleet.app.fleet import Fleet
from outrider_fleet.config import FleetConfig, Home
from outrider_fleet.pki.ca import CertificateAuthority
from outrider_fleet.signing.client import SignerClient
from outrider_fleet.store.database import open_database
from outrider_protocol.messages import EnrolRequest, RenewRequest

AIM = "≥ 400"
DAY_MS = 86_400_000


def request() -> str:
    """A signing request with a new key."""
    key = ec.generate_private_key(ec.SECP256R1())
    signed = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    return signed.public_bytes(Encoding.PEM).decode()


def rate(n: int, act: Callable[[int], object]) -> float:
    """Calls a second of CPU time."""
    began = time.process_time()
    for number in range(n):
        act(number)
    return n / (time.process_time() - began)


def open_fleet(directory: Path, now_ms: list[int]) -> Fleet:
    """A fleet with a store and an authority, and a clock that the caller moves."""
    home, config = Home(directory), FleetConfig(name="bench")
    home.trust.mkdir()
    (home.trust / "root.json").write_text("{}")
    numbers = count()
    return Fleet(
        home=home,
        config=config,
        database=open_database(home.url(config)),
        signer=SignerClient(directory / "unused"),
        authority=CertificateAuthority.create(home.ca, fleet="bench"),
        clock_ms=lambda: now_ms[0],
        random_hex=lambda n: f"{next(numbers):0{2 * n}x}",
        sequences=count(1),
        broker_address=lambda: ("127.0.0.1", 8883),
    )


def measured(directory: Path, n: int) -> dict[str, float]:
    """Certificates a CPU second, by row of the table."""
    now_ms = [time.time_ns() // 1_000_000]
    fleet = open_fleet(directory, now_ms)
    requests = [request() for _ in range(n)]
    signing = rate(n, lambda k: fleet.authority.issue_device(requests[k], f"dev-{k}"))
    for number, text in enumerate(requests):
        token = tokens.create(fleet, "device", "")
        enrol.enrol(fleet, EnrolRequest(token, f"dev-{number}", "x86-64", text))
    now_ms[0] += 25 * DAY_MS
    renewing = rate(n, lambda k: renew.over_http(fleet, RenewRequest(f"dev-{k}", requests[k])))
    fleet.database.close()
    return {"signed by the authority": signing, "renewed by the server, committed one by one": renewing}


def main() -> None:
    """Measure, print the table as Markdown."""
    parser = argparse.ArgumentParser(description="Device certificates a second of CPU time.")
    parser.add_argument("--n", type=int, default=1000, metavar="CERTIFICATES")
    n: int = parser.parse_args().n
    with tempfile.TemporaryDirectory(prefix="outrider-certificates-") as directory:
        rows = measured(Path(directory), n)
    lines = ["| certificates | a second a core |", "|---|---|"]
    lines += [f"| {name} | {per_second:.0f} |" for name, per_second in rows.items()]
    lines.append(f"| aim | {AIM} |")
    machine = f"Python {platform.python_version()}, {platform.system()} {platform.machine()}, {os.cpu_count()} CPUs."
    sys.stdout.write("\n".join([*lines, "", machine]) + "\n")


if __name__ == "__main__":
    main()
