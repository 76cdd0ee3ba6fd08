"""What can be given to each command. What a command does is imported when it is called, so that help is quick."""
