"""Image sets: found, read, painted into labels, and kept in stores."""
