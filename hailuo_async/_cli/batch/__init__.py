"""The command ``batch``: what it costs, how it goes, and how it ended."""
