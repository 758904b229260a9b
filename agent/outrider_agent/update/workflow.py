"""TUF's client workflow (specification, section 5) over kept files and a repository: python-tuf decides.

1. python-tuf's updater runs in a scratch directory over what was kept; it asks the repository for bytes, nobody else.
2. The trust anchor is the newest root that was kept: each one was signed by the one before it when it was taken in.
3. What it has verified is in `kept` after success and after failure: a newer root or timestamp that was seen must not
   be forgotten.
4. The time is the caller's. Whatever goes wrong is a named error: expired, untrusted or not to be had are three things.

`TrustStore` runs it for the daemon, `tuf_client` for anybody who wants to test it: it is the same code.

    with Workflow(scratch, kept, repository, now) as workflow:
        workflow.refresh()
        found = workflow.target("har/1.0/x86-64")
    kept = workflow.kept
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Final, Protocol, final

from tuf.api.exceptions import (
    DownloadError,
    DownloadHTTPError,
    DownloadLengthMismatchError,
    ExpiredMetadataError,
    RepositoryError,
)
from tuf.api.metadata import TargetFile
from tuf.ngclient import FetcherInterface, Updater, UpdaterConfig

from outrider_agent.errors import AgentError
from outrider_agent.update.errors import CannotRefreshError, TrustExpiredError, UntrustedMetadataError
from outrider_agent.update.trust_file import ROOT, Kept
from outrider_protocol import limits
from outrider_protocol.errors import MalformedError, ProtocolError

_BASE: Final = "outrider:///"
_NOT_FOUND: Final = 404


class Repository(Protocol):
    """Where a TUF repository's files come from."""

    def stream(self, name: str) -> Iterator[bytes] | None:
        """The blocks of a file by its name in the repository, None where it has no such file."""


def config(role_bytes: int, root_bytes: int = limits.ROOT_BYTES) -> UpdaterConfig:
    """The updater's limits: sizes of metadata, rotations of root, delegations followed."""
    return UpdaterConfig(
        max_root_rotations=limits.ROOT_ROTATIONS,
        root_max_length=root_bytes,
        timestamp_max_length=limits.TRUST_ONLINE_BYTES,
        snapshot_max_length=role_bytes,
        targets_max_length=role_bytes,
    )


class _Fetcher(FetcherInterface):
    def __init__(self, repository: Repository) -> None:
        self._repository = repository

    def _fetch(self, url: str) -> Iterator[bytes]:
        blocks = self._repository.stream(url.removeprefix(_BASE))
        if blocks is None:
            raise DownloadHTTPError(f"{url.removeprefix(_BASE)} was not offered", _NOT_FOUND)
        return blocks


@final
class Workflow:
    """One run; `scratch` is an empty directory of the caller's, who removes it."""

    def __init__(
        self, scratch: Path, kept: Kept, repository: Repository, now: datetime, limits_: UpdaterConfig
    ) -> None:
        self._scratch, self._before, self.kept = scratch, kept, dict(kept)
        for name, data in kept.items():
            if name != ROOT:
                (scratch / name).write_bytes(data)
        with named_errors():
            self._updater = Updater(
                str(scratch), _BASE, fetcher=_Fetcher(repository), config=limits_, bootstrap=kept[ROOT]
            )
            self._updater._trusted_set.reference_time = now

    def __enter__(self) -> Workflow:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kept = {path.name: path.read_bytes() for path in self._scratch.glob("*.json")}

    @property
    def root_is_consistent(self) -> bool:
        """Whether the repository prefixes its files (`consistent_snapshot`)."""
        return bool(self._updater._trusted_set.root.consistent_snapshot)

    @property
    def trusted_until(self) -> datetime:
        """Where what is trusted now ends; after `refresh`. Root and targets bound what an online key says of time."""
        trusted = self._updater._trusted_set
        return min(trusted.root.expires, trusted.targets.expires, trusted.timestamp.expires)

    def refresh(self) -> None:
        """Bring the top-level roles up to date; raises `CannotRefreshError`, `TrustExpiredError`, or untrusted."""
        with named_errors():
            self._updater.refresh()

    def target(self, path: str) -> TargetFile | None:
        """What the trusted roles say of a target, None where none lists it; raises as `refresh` does."""
        with named_errors():
            return self._updater.get_targetinfo(path)


@contextmanager
def named_errors() -> Iterator[None]:
    """Turn python-tuf's errors into ours; one of ours that passed through it comes out as it went in."""
    try:
        yield
    except ExpiredMetadataError as error:
        raise TrustExpiredError(str(error)) from error
    except DownloadLengthMismatchError as error:
        raise UntrustedMetadataError(f"endless metadata: {error}") from error
    except DownloadError as error:
        if isinstance(error.__cause__, AgentError | ProtocolError):
            raise error.__cause__ from None
        raise CannotRefreshError(str(error)) from error
    except (RepositoryError, MalformedError) as error:
        raise UntrustedMetadataError(str(error)) from error
