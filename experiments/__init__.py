"""One trial: data, training, loss-independent metrics, logging and the record."""
