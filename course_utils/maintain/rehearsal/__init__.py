"""The published path without the published weights: a small hub on this machine, and every lesson run against it."""
