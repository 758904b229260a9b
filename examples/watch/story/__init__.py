"""The story of `make demo`: everything through the real commands, HTTP and local sockets, as separate processes."""
