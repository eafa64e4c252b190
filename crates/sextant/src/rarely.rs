//! Says what somebody else can make happen any number of times at most once a minute: a log must not be for others to fill.

pub use log_throttle::LogThrottle as Rarely;
