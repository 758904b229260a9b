"""What two Outrider parties must agree on byte for byte. No I/O, no clock.

One concept a module: `ids` and `topics` name things, `canonical` and `fields`
read and write JSON, `manifest`, `order`, `messages`, `telemetry`, `tensors`,
`statistics` and `preprocess` (executed by `prepare`) are the documents, `dsse` and `trust` decide what may be believed,
`signing` (forbidden on devices) makes signatures.
"""

__version__ = "0.1.0"
