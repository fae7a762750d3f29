"""Plans without a model: `planner` makes them from numbers, `picture` draws them, `_speeds` measures devices for them."""
