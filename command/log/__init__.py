"""What was acknowledged and is never lost: one writer, its store, folding, verification, restore.

Shell: the only room that opens the database.
"""
