"""Who may act among several that want to, and who gets what: leases, fencing tokens, wait graphs, locks on files, hash rings.

Belongs here: what is decided about locks and places, and a lock holder's side. Never: when a process is started or ended.
"""
