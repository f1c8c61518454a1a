"""Who may act among several that want to: leases, fencing tokens, wait graphs, locks on files.

Belongs here: what is decided about locks, and the holder's side of them. Never: when a process is started or ended.
"""
