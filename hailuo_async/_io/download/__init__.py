"""From a result's URL to a whole file: checked, resumable, from allowed hosts only."""
