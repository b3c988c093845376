"""What public implementations gave, and the seeds of what they were given."""
