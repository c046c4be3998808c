"""The processes of one trial: who starts them, how they find each other, and how they end.

Rank 0 is the process of the command. It alone writes, logs, prints and hears what is asked of the
trial; the others, the worker ranks, hold nothing that is not in its record, train along, come to
the same decisions from the same numbers, and end when it says so or is gone.
"""
