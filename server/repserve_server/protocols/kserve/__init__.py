"""What KServe v2 means, whichever wire a request came by: no wire library is used here."""
