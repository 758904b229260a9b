"""The report of a build: `report.json` for programs, `report.html` for people, the same figures in both."""
