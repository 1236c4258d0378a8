"""What the commands share: options, arguments, the console, errors and exit codes."""
