"""The update process: short-lived, it alone verifies, downloads, unpacks and commits artifacts."""
