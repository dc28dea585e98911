"""How nodes agree: the link's protocol, sharing, claims and the picture.

Pure: bytes and instants come in as arguments, commands go out; `uplink` carries them.
"""
