"""One network trained by several processes: what is computed of the whole batch."""
