"""What a service says of itself: metrics for Prometheus, and how far photos have drifted."""
