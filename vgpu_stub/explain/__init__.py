"""Whether a program used the GPU, and if not, why: evidence, and a verdict drawn from it."""
