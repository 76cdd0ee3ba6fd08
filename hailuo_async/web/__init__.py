"""Videos on the web: the page that ``hailuo-async serve`` serves, and what takes jobs from requests. Extra ``web``."""
