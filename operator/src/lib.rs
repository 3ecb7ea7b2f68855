//! The Gapless operator: observe, validate, build, apply, report.
