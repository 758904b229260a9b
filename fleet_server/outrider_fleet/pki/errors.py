"""Errors of the certificate authority."""

from outrider_fleet.errors import ConfigError, RefusedError


class RequestRefusedError(RefusedError):
    """A certificate signing request that this authority does not sign."""

    hint = "Make a new P-256 key and request on the device (`outrider-agent enrol` does), then try again."


class AuthorityMissingError(ConfigError):
    """The authority's directory is incomplete or exists already."""

    hint = "Restore the `ca` directory from its backup; `outrider-fleet init` makes one in an empty directory only."
