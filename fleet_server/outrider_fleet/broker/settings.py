"""The configuration file of nats-server, rendered; pure.

1. Everything listens where it is told, by default on the loopback alone.
2. Three accounts: SYS (see and end sessions), AUTH (the callout), DEV (everybody else, with JetStream).
3. MQTT demands a client certificate of the fleet's authority; who may do what is the callout's answer.
4. Nobody reaches DEV without the callout: `auth` and `sys` are the only users with passwords.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Final


@dataclass(frozen=True)
class ServerTls:
    """PEM files: the broker's certificate chain and key, and the authority that clients must come from."""

    certificate: Path
    key: Path
    ca: Path


@dataclass(frozen=True)
class Credentials:
    """Secrets of one broker: two passwords, and the public key that callout answers are signed with."""

    sys_password: str
    auth_password: str
    issuer_seed: str
    issuer_public: str


@dataclass(frozen=True)
class Listen:
    """Where the broker listens: MQTT for devices, NATS for the callout (loopback only)."""

    mqtt_host: str
    mqtt_port: int
    nats_port: int


# A client that asks in the moments between the broker's start and the callout's return waits this long, then
# tries again; under a storm of reconnects the callout must answer within it.
ANSWER_S: Final = 1

_TEMPLATE: Final = Template("""\
server_name: outrider
listen: "127.0.0.1:$nats_port"
max_connections: 100000
max_payload: 1MB
max_pending: 64MB
write_deadline: "10s"
jetstream {
  store_dir: $store
  max_memory_store: 256MB
  max_file_store: 4GB
  limits: { default_max_consumers: 200000 }
}
mqtt {
  host: $mqtt_host
  port: $mqtt_port
  max_ack_pending: 1000
  tls { cert_file: $certificate, key_file: $key, ca_file: $ca, verify: true, timeout: 10 }
}
accounts {
  SYS { users: [ { user: sys, password: $sys_password } ] }
  AUTH { users: [ { user: auth, password: $auth_password } ] }
  DEV { jetstream: enabled }
}
system_account: SYS
authorization {
  timeout: $answer_s
  auth_callout { issuer: $issuer, account: AUTH, auth_users: [ auth, sys ] }
}
""")


def render(listen: Listen, tls: ServerTls, credentials: Credentials, store: Path) -> str:
    """Return the text of the configuration file."""
    return _TEMPLATE.substitute(
        nats_port=listen.nats_port,
        answer_s=ANSWER_S,
        mqtt_host=_quoted(listen.mqtt_host),
        mqtt_port=listen.mqtt_port,
        store=_quoted(str(store)),
        certificate=_quoted(str(tls.certificate)),
        key=_quoted(str(tls.key)),
        ca=_quoted(str(tls.ca)),
        sys_password=_quoted(credentials.sys_password),
        auth_password=_quoted(credentials.auth_password),
        issuer=_quoted(credentials.issuer_public),
    )


def _quoted(text: str) -> str:
    return json.dumps(text)
