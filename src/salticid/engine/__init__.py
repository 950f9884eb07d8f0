"""The one training loop, its state, and what it tells the user."""
