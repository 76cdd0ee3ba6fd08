"""The journal: what was asked for and what became of it, durable before a caller hears of it."""
