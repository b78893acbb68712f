"""The bench's reports as one self-contained HTML file."""
