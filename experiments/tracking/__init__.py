"""Where metrics and pictures go besides the record: CSV files, Weights & Biases."""
