"""What the commands do, one file each; ``hailuo_async.cli`` is their face."""
