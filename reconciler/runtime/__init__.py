"""The hands: what is observed goes into the store, what is planned goes out to the launcher.

`loop` turns, `observer` writes down, `executor` acts; none of them decides anything about policy.
"""
