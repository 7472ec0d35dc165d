"""To wait for an event, in a test or in what it starts."""

import time


def wait_until(true, seconds=300):
    """Wait for what must happen; the time is for what never does, and no machine is as slow as that."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it does not happen"
        time.sleep(0.02)
