//! The recorder: streams in, segments out, playback.
