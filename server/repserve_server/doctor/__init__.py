"""``repserve doctor``: whether serving can work on this machine with these settings, and what to do where it cannot."""
