//! Decisions without deeds: nothing in here does I/O, so that all cases can be read and tested as tables.

pub mod assignment;
pub mod complaints;
pub mod databases;
pub mod decide;
pub mod encryption;
pub mod environment;
pub mod facts;
pub mod image;
pub mod isolation;
pub mod job;
pub mod labels;
pub mod lease;
pub mod loss;
pub mod mask;
pub mod names;
pub mod overview;
pub mod policy;
pub mod probe;
pub mod read;
pub mod report;
pub mod secrets;
pub mod security;
pub mod situation;
pub mod tail;
pub mod waits;
pub mod walls;
