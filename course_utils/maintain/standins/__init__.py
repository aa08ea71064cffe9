"""How the small checkpoints are made: the same classes as the published ones, trained here on general pages."""
