"""The HTTP interface: `/api/v1`. It reads requests, calls one use case, writes the answer; it decides nothing."""
