"""Plans by themselves: `planner` makes them from numbers, `picture` draws them, `speeds` measures what they are made with."""
