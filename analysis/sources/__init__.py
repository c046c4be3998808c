"""Where trials are read from, one module a source; each gives `analysis.found.Found` trials."""
