//! The Lease by which a node's processes elect a leader; the rules are in [`crate::decisions::lease`]. Every write names the version that
//! it changes, so if two processes write at the same time, one fails.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::HEXLOWER;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::Api;
use kube::api::PostParams;
use sextant_core::leadership::{self, Leadership};
use sextant_core::names::Identity;
use sextant_process::health::Health;
use sextant_process::process_identity;
use sextant_process::supervisor::Supervisor;
use tokio::time::sleep;
use tracing::{debug, info, warn};

use super::cluster::{error_chain, status_code, with_timeout_of};
use crate::decisions::labels;
use crate::decisions::lease::{DURATION, LOOK, Next, Observer, RENEW, Record, TRUST};

/// The timeout of one call: a slow answer is useful only while the renewal is.
const CALL: Duration = Duration::from_secs(6);

/// The Lease of a node, as used by one of its processes.
pub struct NodeLease {
    api: Api<Lease>,
    name: String,
    labels: BTreeMap<String, String>,
    me: String,
    /// Identifies the set of processes that this process can see.
    realm: Option<String>,
}

/// The owner of the Lease.
enum Claim {
    /// This process.
    Ours(Box<Lease>),
    /// Another process, with this name; `None` if two processes write at the same time.
    Theirs(Option<String>),
}

/// Why a Lease could not be written.
enum Failed {
    /// Another process holds it, or has changed it at the same time.
    Conflict,
    /// The result is unknown: the API server is unavailable, slow, or refuses.
    Unknown(String),
}

impl NodeLease {
    /// The Lease of this node.
    pub fn new(api: Api<Lease>, identity: &Identity) -> Self {
        let realm = process_identity::pid_scope()
            .map(|realm| HEXLOWER.encode(&digest(&SHA256, realm.as_bytes()).as_ref()[..5]));
        Self {
            api,
            name: identity.lease_name(),
            labels: labels::of_node(identity),
            me: me(realm.as_deref().unwrap_or("unknown")),
            realm,
        }
    }

    /// Waits until this process holds the Lease. Then renews it in a task that ends when leadership is lost or released. Returns whether
    /// another process held it first.
    pub async fn acquire(self, leadership: Arc<Leadership>, health: Arc<Health>, supervisor: &Supervisor) -> bool {
        let mut observer = Observer::default();
        let mut told = String::new();
        let mut stood_by = false;
        let lease = loop {
            let asked = leadership::now();
            match self.look(&mut observer).await {
                Ok(Claim::Ours(lease)) => {
                    leadership.extend(asked + TRUST);
                    break *lease;
                }
                Ok(Claim::Theirs(None)) => {}
                Ok(Claim::Theirs(Some(holder))) => {
                    stood_by = true;
                    let why = format!("stands by: {} of this node is the leader", words_of(&holder));
                    if told != why {
                        info!(
                            "Another process of this node, {}, holds the lease '{}'. This one stands by, and takes \
                             over when that one ends. (Two nodes need two API keys.)",
                            words_of(&holder),
                            self.name
                        );
                        health.unready(leadership::PART, &why);
                        told = why;
                    }
                }
                Err(why) => {
                    if told != why {
                        warn!("Can't acquire the lease '{}' at the moment: {why}", self.name);
                        health.unready(leadership::PART, format!("the lease can't be acquired: {why}"));
                        told = why;
                    }
                }
            }
            sleep(LOOK).await;
        };
        health.ready(leadership::PART);
        if stood_by {
            info!("This process holds the lease '{}' now, and takes over.", self.name);
        }
        supervisor.spawn_finite("the renewal of the lease", self.keep(lease, leadership, health));
        stood_by
    }

    /// Makes one attempt of a standby process to take the Lease.
    async fn look(&self, observer: &mut Observer) -> Result<Claim, String> {
        let found = with_timeout_of(CALL, self.api.get_opt(&self.name)).await.map_err(|error| error_chain(&error))?;
        let record = found.as_ref().map(record);
        let holder = record.as_ref().map(|record| record.holder.clone()).unwrap_or_default();
        let gone = holder == self.me || is_gone(self.realm.as_deref(), &holder);
        match observer.next(record, gone, leadership::now()) {
            Next::StandBy => Ok(Claim::Theirs(Some(holder).filter(|holder| !holder.is_empty()))),
            Next::Take => match self.write(found, &self.me).await {
                Ok(lease) => Ok(Claim::Ours(Box::new(lease))),
                // Another process was faster; the next attempt shows which.
                Err(Failed::Conflict) => Ok(Claim::Theirs(None)),
                Err(Failed::Unknown(why)) => Err(why),
            },
        }
    }

    /// Renews the Lease until it is lost or released.
    async fn keep(self, mut lease: Lease, leadership: Arc<Leadership>, health: Arc<Health>) {
        loop {
            let mut asked = leadership::now();
            let renewed = async {
                sleep(RENEW).await;
                asked = leadership::now();
                self.renew(&lease, &self.me).await
            };
            let renewed = tokio::select! {
                renewed = renewed => renewed,
                () = leadership.release_requested() => {
                    if let Err(why) = self.renew(&lease, "").await {
                        debug!("Could not release the lease '{}': {why}", self.name);
                    }
                    return leadership.mark_released();
                }
            };
            match renewed {
                Ok(Claim::Ours(renewed)) => {
                    lease = *renewed;
                    if !leadership.is_leader() {
                        info!("The lease '{}' is renewed again; this process continues.", self.name);
                    }
                    leadership.extend(asked + TRUST);
                    health.ready(leadership::PART);
                }
                Ok(Claim::Theirs(holder)) => return leadership.step_down(words_of(&holder.unwrap_or_default())),
                Err(why) if leadership.is_leader() => {
                    debug!("Could not renew the lease '{}' yet: {why}", self.name);
                }
                Err(why) => {
                    let text = "Could not renew the lease, so another process may take over: nothing is started or \
                        reported until it is renewed";
                    if health.is_ready_in(leadership::PART) {
                        warn!("{text}. {why}");
                    }
                    health.unready(leadership::PART, text);
                }
            }
        }
    }

    /// Renews the Lease once for this process, or releases it if `holder` is empty.
    async fn renew(&self, lease: &Lease, holder: &str) -> Result<Claim, String> {
        match self.write(Some(lease.clone()), holder).await {
            Ok(renewed) => return Ok(Claim::Ours(Box::new(renewed))),
            Err(Failed::Unknown(why)) => return Err(why),
            Err(Failed::Conflict) => {}
        }
        // The Lease has changed, maybe by a call of this process whose answer was lost.
        let found = with_timeout_of(CALL, self.api.get_opt(&self.name)).await.map_err(|error| error_chain(&error))?;
        match &found {
            Some(lease) if record(lease).holder != self.me => Ok(Claim::Theirs(Some(record(lease).holder))),
            // A person deleted or edited it.
            _ => match self.write(found, holder).await {
                Ok(renewed) => Ok(Claim::Ours(Box::new(renewed))),
                Err(Failed::Conflict) => Err("somebody else keeps changing it".into()),
                Err(Failed::Unknown(why)) => Err(why),
            },
        }
    }

    /// Writes the new holder over the version that was read.
    async fn write(&self, found: Option<Lease>, holder: &str) -> Result<Lease, Failed> {
        let now = Timestamp::now();
        let new = found.is_none();
        let mut lease = found.unwrap_or_else(|| Lease {
            metadata: ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() },
            ..Lease::default()
        });
        // Leases of earlier versions lack the release label.
        lease.metadata.labels.get_or_insert_default().extend(self.labels.clone());
        let spec = lease.spec.get_or_insert_with(LeaseSpec::default);
        if spec.holder_identity.as_deref() != Some(holder) {
            spec.acquire_time = Some(MicroTime(now));
            spec.lease_transitions = Some(if new { 0 } else { spec.lease_transitions.unwrap_or(0).saturating_add(1) });
        }
        spec.holder_identity = Some(holder.to_owned());
        spec.lease_duration_seconds = i32::try_from(DURATION.as_secs()).ok();
        spec.renew_time = Some(MicroTime(now));
        let parameters = PostParams::default();
        let written = if new {
            with_timeout_of(CALL, self.api.create(&parameters, &lease)).await
        } else {
            with_timeout_of(CALL, self.api.replace(&self.name, &parameters, &lease)).await
        };
        written.map_err(|error| match status_code(&error) {
            // 404: the Lease was deleted since it was read.
            Some(404 | 409) => Failed::Conflict,
            _ => Failed::Unknown(error_chain(&error)),
        })
    }
}

/// Whether the holder was a process on this machine since its last boot, and has ended. Then there is no need to wait.
fn is_gone(realm: Option<&str>, holder: &str) -> bool {
    let Some([_, process, theirs]) = parts(holder) else { return false };
    realm == Some(theirs) && !process_identity::is_alive(&process.replacen('-', " ", 1))
}

/// A name that no other process has: `machine/4711-123456/1a2b3c4d5e`.
fn me(realm: &str) -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    // In a pod, the hostname is the pod's name.
    let host = if host.trim().is_empty() { "unknown" } else { host.trim() };
    let process = process_identity::identity(std::process::id()).replacen(' ', "-", 1);
    format!("{}/{process}/{realm}", host.replace('/', "-"))
}

fn parts(holder: &str) -> Option<[&str; 3]> {
    holder.split('/').collect::<Vec<_>>().try_into().ok()
}

/// Describes a holder for people.
pub fn words_of(holder: &str) -> String {
    match parts(holder) {
        Some([host, process, _]) => format!("process {} on {host}", process.split('-').next().unwrap_or_default()),
        None if holder.is_empty() => "one that has released it since".into(),
        None => format!("'{holder}'"),
    }
}

fn record(lease: &Lease) -> Record {
    let spec = lease.spec.clone().unwrap_or_default();
    Record {
        holder: spec.holder_identity.unwrap_or_default(),
        renewed: spec.renew_time.map(|time| time.0.to_string()).unwrap_or_default(),
        duration: spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok()).map(Duration::from_secs),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_holder_is_known_to_be_gone_only_where_it_would_be_seen() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let holder = format!("host/{}/here", process_identity::identity(child.id()).replacen(' ', "-", 1));
        assert!(!is_gone(Some("here"), &holder));
        assert!(!is_gone(Some("here"), &me("here")));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(is_gone(Some("here"), &holder));
        for (realm, holder) in
            [(Some("there"), holder.as_str()), (None, &holder), (Some("here"), "written by a person")]
        {
            assert!(!is_gone(realm, holder), "{realm:?} {holder}");
        }
    }

    #[test]
    fn people_are_told_process_and_machine() {
        assert_eq!(words_of("node-7d9f/1-4711/0a1b2c3d4e"), "process 1 on node-7d9f");
        assert_eq!(words_of("somebody"), "'somebody'");
    }
}
