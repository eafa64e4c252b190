//! Opens, shares and removes folders and files that algorithms have written, without trusting their content.
#![forbid(unsafe_code)]

pub mod remove_tree;
pub mod run_context;
pub mod safe_open;
pub mod shared_dirs;
