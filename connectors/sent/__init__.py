"""What each recipient was sent before, in keyed digests, and what it would gain from one release more."""
