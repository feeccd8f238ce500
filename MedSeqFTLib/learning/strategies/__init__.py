"""How a model learns one task after another: one file a strategy, one interface (base.py)."""
