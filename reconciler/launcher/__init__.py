"""The parent of every process: starts, signals and waits; survives the controller; standard library only.

Nothing here imports the rest of the house, and only `protocol` is imported by it.
"""
