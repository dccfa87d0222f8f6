"""Rewrites that a target profits from, made before the plan."""
