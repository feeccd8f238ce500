"""Fault tests: what is interrupted, refused or damaged in a workspace, and that nothing is lost by it."""
