//! What the bytes on disk mean, and how to prove them.
