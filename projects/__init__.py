"""Projects kept in agreement with a PSA.  Empty until the PSA integration is built."""
