"""What a monitor shows of running device servers: rows of numbers, their history, the screen."""
