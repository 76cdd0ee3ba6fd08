"""Files and folders of jobs: read, checked line by line, and turned into jobs."""
