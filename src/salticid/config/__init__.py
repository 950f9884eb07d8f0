"""Configurations: read safely, checked key by key, built into the parts of a run.

Nothing in this package but `run`, which knows the components, imports torch.
"""

KEYS = {
    "recipe": "what learns: a class_path with init_args",
    "data": "what it learns from: a class_path with init_args",
    "latents": "a folder that salticid encode has filled, to train from; null: encode while training",
    "trainer": "steps, batch, precision, workers, seed, device",
    "optimizer": "name, lr, betas, weight_decay, eps",
    "schedule": "the learning rate over the steps",
    "ema": "the moving average of the weights, or null",
    "validation": "how often, on how many samples, with which weights",
    "checkpoint": "how often, how many are kept, best by which metric",
    "log": "how often; tensorboard, wandb, trackio",
}
"""The top-level keys of a configuration, in words; `run.RunConfig` holds their types."""
