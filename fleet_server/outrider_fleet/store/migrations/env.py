"""How Alembic reaches the database: by the connection that `database._migrate` hands over."""

from alembic import context

from outrider_fleet.store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
    transaction_per_migration=False,
)
context.run_migrations()
