"""What a loss can pay for on these images, foretold before anything is trained.

One story in four steps: the principal components of the images and what each explains of a
distance (`components`); what the optimal linear VAE does with them under a loss at its scale and
beta, and so how much KL and how many latent units it can pay for (`capacity`); the forecast of a
trial's or many configs' losses (`forecasting`); the same in words and as a table (`telling`).
`python -m experiments.preflight` prints it for every loss.
"""
