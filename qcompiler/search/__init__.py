"""What is tried, how it is judged, and what is shipped."""
