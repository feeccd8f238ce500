"""Which training cases of a task form its buffer. `size` and `racing` are free of torch."""
