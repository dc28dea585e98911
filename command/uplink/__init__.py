"""The shell of the tree: dials the parent, opens the door to children, keeps the state of the line.

Moves bytes between sockets, the log and `tree.link`; decides nothing.
"""
