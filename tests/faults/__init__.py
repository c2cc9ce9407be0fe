"""What happens when something goes wrong: README.md has the table."""
