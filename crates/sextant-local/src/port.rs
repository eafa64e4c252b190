//! The port of the proxy for a node's runs. It stays the same, because runs outlive the node and know the proxy by its port.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;

use sextant_core::run_state::RunState;

use super::folder::Folder;
use super::private::Dir;

/// The file with the port, beside the runs' folders.
const PROXY_PORT: &str = "proxy-port";

/// Opens the proxy's port, before anything else happens with runs.
///
/// # Errors
/// There is no free port, the port can't be stored, or another process has it while runs are in progress, which would send their tokens
/// there. The message is for the operator.
pub fn bind(root: &Arc<Dir>) -> Result<TcpListener, String> {
    let wrong = |error: std::io::Error| format!("The proxy for algorithms can't be opened on this machine: {error}.");
    root.put_aside_unless_file(PROXY_PORT).map_err(wrong)?;
    let known: Option<u16> = root.read(PROXY_PORT).ok().and_then(|text| text.trim().parse().ok());
    let at = |port: u16| TcpListener::bind((Ipv4Addr::LOCALHOST, port));
    let listener = match known.map(|port| (port, at(port))) {
        Some((_, Ok(listener))) => listener,
        Some((port, Err(error))) => {
            let under_way = under_way(root);
            if !under_way.is_empty() {
                return Err(format!(
                    "Port {port} of 127.0.0.1, where running algorithms find this node's proxy, can't be opened: \
                     {error}. The process that has it gets what they send, with their tokens. Find that process (`ss \
                     -ltnp sport = :{port}`) and end it, or end these algorithms: {}.",
                    under_way.join(", ")
                ));
            }
            at(0).map_err(wrong)?
        }
        None => at(0).map_err(wrong)?,
    };
    let port = listener.local_addr().map_err(wrong)?.port();
    root.replace(PROXY_PORT, &port.to_string()).map_err(wrong)?;
    Ok(listener)
}

/// Returns the runs with live processes, and their supervisors.
fn under_way(root: &Arc<Dir>) -> Vec<String> {
    let living = Folder::all(root).into_iter().filter(|folder| matches!(folder.run_state(), RunState::Running { .. }));
    living.map(|folder| format!("run {} (process {})", folder.run, supervisor(&folder))).collect()
}

fn supervisor(folder: &Folder) -> String {
    let process = folder.read_pid().unwrap_or_default();
    process.split(' ').next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use vantage6_types::{RunId, TaskId};

    use super::*;
    use crate::folder::write_pid;
    use crate::private::Missing;

    #[test]
    fn a_port_that_runs_under_way_know_is_this_nodes_or_nobodys() {
        let place = tempfile::tempdir().unwrap();
        let root = Arc::new(Dir::at(&place.path().join("node"), Missing::Create).unwrap().unwrap());
        let first = bind(&root).unwrap();
        let port = first.local_addr().unwrap().port();
        drop(first);
        assert_eq!(bind(&root).unwrap().local_addr().unwrap().port(), port, "it stays");

        let somebody = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        let run = Folder::new(&root, TaskId(3), RunId(7));
        run.make(&sextant_core::assignment::sample::assignment(3, 7, "today")).unwrap();
        write_pid(&run.open().unwrap(), std::process::id()).unwrap();
        let error = bind(&root).unwrap_err();
        assert!(error.contains(&format!("Port {port}")) && error.contains("run 7"), "{error}");
        // No run in progress uses the port any more.
        run.put_aside().unwrap();
        assert_ne!(bind(&root).unwrap().local_addr().unwrap().port(), port);
        drop(somebody);
    }

    #[test]
    fn what_is_no_file_in_the_ports_place_is_put_aside() {
        let place = tempfile::tempdir().unwrap();
        let root = Arc::new(Dir::at(&place.path().join("node"), Missing::Create).unwrap().unwrap());
        std::fs::create_dir_all(place.path().join("node/proxy-port/x")).unwrap();
        let port = bind(&root).unwrap().local_addr().unwrap().port();
        assert_eq!(root.read(PROXY_PORT).unwrap(), port.to_string());
        root.put_aside(PROXY_PORT).unwrap();
        std::os::unix::fs::symlink("/nonexistent", place.path().join("node/proxy-port")).unwrap();
        bind(&root).unwrap();
        assert!(root.read(PROXY_PORT).is_ok());
    }
}
