"""One trial: data, training, loss-independent metrics, logging and the record.

Whatever reads a registry imports this package first, so it loads what the user adds to them.
"""

from experiments.machine import plugins

plugins.load()
