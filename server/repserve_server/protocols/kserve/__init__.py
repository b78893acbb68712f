"""What a KServe v2 request means, whichever wire it came by: no wire library is used here."""
