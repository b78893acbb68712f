"""``repserve doctor``: checks that serving can work on this machine with these settings, and says what to do if not."""
