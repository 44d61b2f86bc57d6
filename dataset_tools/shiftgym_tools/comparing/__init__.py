"""Ours beside the published: what sets measure, bands they lie in, fidelity of the replay."""
