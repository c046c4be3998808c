"""The processes of one trial: who starts them, how they find each other, and how they end.

Rank 0 is the process of the command. It alone writes, logs, prints and decides; the others, the
worker ranks, hold nothing that is not in its record, train along, and end when it says so or is
gone.
"""
