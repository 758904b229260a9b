"""The Open Inference Protocol, version 2, by hand: `http` finds requests in bytes, `codec` tensors in requests.

Both are pure: they read and return bytes and arrays, and own no socket.
"""
