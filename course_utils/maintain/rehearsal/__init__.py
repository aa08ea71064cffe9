"""The published path without the published weights and without a GPU: a small hub, a pretended GPU, every lesson."""
