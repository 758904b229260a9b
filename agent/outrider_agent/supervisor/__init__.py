"""The supervisor process: broker connection, children, outbox, executions. It compares bytes and verifies nothing."""
