//! Folders and files that algorithms have written, and may have written to do harm: opened, shared and removed without trusting what is
//! in them.
#![forbid(unsafe_code)]

pub mod remove_tree;
pub mod safe_open;
pub mod shared_dirs;
