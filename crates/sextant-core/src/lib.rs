//! The decisions of a node. Nothing here does I/O, so all cases can be tested as tables. The crate also defines the two ports that
//! hide the I/O: [`hub`], the server, and [`runtime`], which runs algorithms. It contains no Kubernetes type and no type of a
//! server's wire format.
#![forbid(unsafe_code)]

pub mod assignment;
pub mod blame;
pub mod doctor_line;
pub mod environment;
pub mod gate;
pub mod host_limits;
pub mod hub;
pub mod image;
pub mod image_policy;
pub mod image_reference;
pub mod leadership;
pub mod lineage;
pub mod live_backlog;
pub mod live_text;
pub mod log_text;
pub mod mask;
pub mod masks;
pub mod names;
pub mod next_action;
pub mod node_error;
pub mod overview;
pub mod pod_issue;
pub mod policies;
pub mod policy;
pub mod registries;
pub mod remembered;
pub mod report;
pub mod run_context;
pub mod run_identity;
pub mod run_state;
pub mod runtime;
pub mod stop_note;
pub mod tail;
pub mod timeouts;
