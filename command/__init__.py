"""The command system: what one node decides, remembers and shows. Rooms from the bottom up: `base`, `tree`, `domain`, `log`,
`edge`, `uplink`; the modules beside them put a node together (`service`) and are its command line.
"""
