"""What people type: Hydra's override grammar, and the commands that messages print."""
