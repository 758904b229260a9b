"""The files of a mosquitto that serves a fleet, rendered; pure.

1. A client is the name of its certificate, and nothing else: user name and client id are replaced by it.
2. A device reaches what `permissions` grants on NATS, by patterns of its name; the shard is left to the server, which
   refuses a wrong one.
3. What a certificate no longer opens stands in the revocation list, which SIGHUP loads.
"""

from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Final

from outrider_fleet.pki.ca import FLEET_NAME
from outrider_protocol import topics

CONFIG: Final = "mosquitto.conf"
ACL: Final = "acl"
LIST: Final = "crl.pem"
PID: Final = "mosquitto.pid"
ADDRESS: Final = "broker.json"


@dataclass(frozen=True)
class Listener:
    """Where mosquitto listens, and as which system user it runs."""

    host: str
    port: int
    user: str


_TEMPLATE: Final = Template("""\
# Written by `outrider-fleet broker-config mosquitto`. Run it again rather than change this file.
per_listener_settings false
user $user
pid_file $directory/mosquitto.pid
log_dest file $directory/mosquitto.log
log_type error
log_type warning
log_type notice

# Nobody without a certificate of the fleet; its common name is user name and client id, whatever the client says.
listener $port $host
cafile $directory/ca.pem
certfile $directory/server.pem
keyfile $directory/server.key
crlfile $directory/crl.pem
require_certificate true
use_identity_as_username true
use_username_as_clientid true
allow_anonymous false
acl_file $directory/acl
max_connections -1
message_size_limit 1048576
max_queued_messages 10000

# A minute of retained messages may be lost by kill -9: the fleet server publishes again what it finds missing.
persistence true
persistence_location $directory/store/
autosave_interval 60
""")

_R: Final = topics.ROOT
_ACL: Final = f"""\
# The fleet server's own connection.
user {FLEET_NAME}
topic write {_R}/+/+/dn/#
topic write {_R}/+/+/up/presence
topic readwrite {_R}/blob/#
topic write {_R}/trust/#
topic read {_R}/+/+/up/#

# Every device, by the name of its certificate.
pattern write {_R}/+/%u/up/#
pattern read {_R}/+/%u/dn/#
pattern read {_R}/blob/#
pattern read {_R}/trust/#
"""


def configuration(directory: Path, listener: Listener) -> str:
    """The text of mosquitto.conf."""
    return _TEMPLATE.substitute(vars(listener), directory=directory)


def access_list() -> str:
    """The text of the access list."""
    return _ACL
