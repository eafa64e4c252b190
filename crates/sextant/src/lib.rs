//! See the crate's folder.
