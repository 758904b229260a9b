"""The server's memory: SQLAlchemy Core on SQLite (default) or PostgreSQL, migrated by Alembic.

`tables` names every table and column (docs/spec/store.md says what they mean), `database` opens
and migrates, the other modules hold the queries of one concern each. Nothing here decides.
"""
