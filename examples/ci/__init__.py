"""The whole step of a release pipeline: build, gate, sign, publish."""
