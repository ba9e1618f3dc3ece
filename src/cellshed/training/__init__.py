"""From stores to a trained model folder: losses, optimisers, validation, checkpoints, the loop."""
