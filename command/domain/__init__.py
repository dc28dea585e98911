"""Who may decide what about incidents, orders, meetings, people and nodes, and what follows from it.

Pure: `decide` functions over rows, and projectors that fold entries into rows.
"""
