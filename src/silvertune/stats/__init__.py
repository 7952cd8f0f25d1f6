"""Statistics: arrays and tables in, numbers out. Nothing here knows tasks, configurations or runs."""
