"""silvertune's Hydra plugins: the sweeper and the search path."""
