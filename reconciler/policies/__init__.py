"""Rules as functions and small structures: how long to wait, what follows an end, which worker or task is next.

Belongs here: what can be said without knowing objects of the store. Never: files, processes, time, chance.
"""
