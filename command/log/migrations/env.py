"""Alembic's entry point. It is called by `command.store` with an open connection, never from a shell."""

from alembic import context

from command.log.store import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
