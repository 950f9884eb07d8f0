"""The subcommands. Each module has `parser()`, which imports nothing heavy, and `run(arguments)`."""
