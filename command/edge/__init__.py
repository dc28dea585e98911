"""HTTP and WebSocket: routes with their rights, sessions, live rows, files.

The only room in which handlers see the whole node.
"""
