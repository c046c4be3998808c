"""What sweeps trained, asked again: its networks, their images, scores and latent spaces."""
