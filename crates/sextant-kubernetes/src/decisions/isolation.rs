//! Network isolation of algorithms: what a probe tries, what its findings mean, and whether runs may be launched.
//!
//! A probe is a pod that looks like an algorithm's to the cluster. It must reach the proxy and the data port, and nothing else that it
//! tries. No run is launched until that has been confirmed, and none after a check has failed.

use backoff::Backoff;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sextant_core::gate::Gate;

/// The longest pause before a failed check is repeated.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// The first of these pauses.
const FIRST_PAUSE: Duration = Duration::from_secs(15);
/// For how many periods a successful check stays valid if later checks are inconclusive, for example because the cluster is full.
const PERIODS: u32 = 3;

/// In a [`Try`]'s address: the machine on which the probe runs.
pub const MACHINE: &str = "machine";
/// In a [`Try`]'s address: the API server at the address and port that pods get.
pub const API_SERVER: &str = "api-server";
/// In a [`Try`]'s address: the usual address of a cluster's DNS, the tenth address of the Service network.
pub const DNS: &str = "dns";

/// One attempt of a probe to reach something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Try {
    /// `host:port`, where the host is an IP address or one of the words [`MACHINE`], [`API_SERVER`] and [`DNS`], which only the
    /// probe can resolve.
    pub to: String,
    /// The protocol of the attempt.
    pub how: How,
}

/// The protocol of an attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum How {
    /// Establishes a TCP connection.
    Tcp,
    /// Sends a DNS query.
    Udp,
    /// Sends an HTTP request; any HTTP response counts as an answer.
    Http,
    /// Makes a TLS handshake with a server whose key has this pin.
    Pinned(String),
}

/// The outcome of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// There was an answer.
    Open,
    /// The connection was refused, because nothing listens at the port or because a policy refuses it.
    Refused,
    /// There was no answer.
    Silent,
    /// The network reported that there is no route.
    NoWay,
    /// The target does not exist here, so it was not tried.
    None,
}

/// A probe's report, which is its termination message.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Findings {
    /// The outcomes, in the order of the attempts.
    pub outcomes: Vec<Outcome>,
    /// The machine on which the probe ran.
    pub machine: String,
}

/// An attempt and its expected outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The target's name, for the operator.
    pub name: String,
    /// The attempt to reach it.
    pub attempt: Try,
    /// The expected outcome.
    pub expected: Expected,
}

/// The expected outcome of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// Algorithms need the target.
    Open,
    /// Algorithms must not reach the target, and it is known to listen, so a refusal comes from a policy.
    Closed,
    /// Algorithms must not reach the target, and it is not known to listen. A refusal may come from a policy or from the target
    /// itself, which was then reached.
    ClosedIfThere,
    /// Algorithms must not reach the target. The cluster itself refuses connections to its address if nothing is behind it.
    ClosedService,
}

/// The result of a check of the isolation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proof {
    /// Every attempt had the expected outcome.
    Isolated,
    /// Some attempts had another outcome. Each text is for the operator.
    Wrong {
        /// Targets that can be reached and must not be.
        open: Vec<String>,
        /// Targets that algorithms need and can't reach.
        missing: Vec<String>,
    },
    /// The isolation could not be checked, for this reason.
    Inconclusive(String),
}

/// Interprets a probe's findings.
pub fn judge(targets: &[Target], findings: &Findings) -> Proof {
    if targets.len() != findings.outcomes.len() {
        return Proof::Inconclusive(format!(
            "the probe reported {} of {} attempts",
            findings.outcomes.len(),
            targets.len()
        ));
    }
    let both = || targets.iter().zip(findings.outcomes.iter().copied());
    // Targets that are known to listen show whether the policies refuse connections or drop packets.
    let refuses = both().any(|(target, outcome)| target.expected == Expected::Closed && outcome == Outcome::Refused);
    let open: Vec<String> = both().filter_map(|(target, outcome)| unexpected_open(target, outcome, refuses)).collect();
    let missing: Vec<String> = both().filter_map(|(target, outcome)| unreachable(target, outcome)).collect();
    if !open.is_empty() || !missing.is_empty() {
        return Proof::Wrong { open, missing };
    }
    if both().any(|(target, outcome)| target.expected == Expected::Closed && outcome != Outcome::None) {
        Proof::Isolated
    } else {
        Proof::Inconclusive("there was no target that is known to listen".into())
    }
}

fn unexpected_open(target: &Target, outcome: Outcome, policies_refuse: bool) -> Option<String> {
    let Target { name, attempt: Try { to, .. }, expected } = target;
    match (expected, outcome) {
        (Expected::Open, _) => None,
        (_, Outcome::Open) => Some(format!("{name} ({to}) can be reached")),
        (Expected::ClosedIfThere, Outcome::Refused) if !policies_refuse => {
            Some(format!("{name} ({to}) can be reached: it refuses the connection itself"))
        }
        _ => None,
    }
}

fn unreachable(target: &Target, outcome: Outcome) -> Option<String> {
    let Target { name, attempt: Try { to, .. }, expected } = target;
    let how = match (expected, outcome) {
        (Expected::Open, Outcome::Open) => return None,
        (Expected::Open, Outcome::Refused) => "the connection is refused",
        (Expected::Open, _) => "there is no answer",
        _ => return None,
    };
    Some(format!("{name} ({to}) can't be reached: {how}"))
}

/// What is known about the isolation.
#[derive(Debug)]
pub struct IsolationMonitor {
    every: Duration,
    /// Whether runs are launched even if they may not be isolated.
    allow_unisolated: bool,
    status: IsolationStatus,
    failures: u32,
}

#[derive(Debug)]
enum IsolationStatus {
    /// Confirmed at this time.
    Proved(Duration),
    /// Not isolated, or without access to what algorithms need.
    Wrong(String),
    /// Unknown, for this reason.
    Unknown(String),
}

impl IsolationMonitor {
    /// Starts without a result. With `allow_unisolated`, runs are launched whatever the result.
    pub fn new(every: Duration, allow_unisolated: bool) -> Self {
        let status = IsolationStatus::Unknown("the network isolation of algorithms has not been checked yet".into());
        Self { every, allow_unisolated, status, failures: 0 }
    }

    /// Whether runs may be launched.
    pub fn gate(&self) -> Gate {
        match &self.status {
            _ if self.allow_unisolated => Gate::Open,
            IsolationStatus::Proved(_) => Gate::Open,
            IsolationStatus::Wrong(why) | IsolationStatus::Unknown(why) => Gate::Shut(why.clone()),
        }
    }

    /// Whether runs are launched whatever the result.
    pub fn allow_unisolated(&self) -> bool {
        self.allow_unisolated
    }

    /// Records a result; `now` is the time since any fixed moment. Returns how long to wait before the next check.
    pub fn record(&mut self, proof: &Proof, now: Duration) -> Duration {
        match (proof, &self.status) {
            (Proof::Isolated, _) => {
                self.status = IsolationStatus::Proved(now);
                self.failures = 0;
                return self.every;
            }
            (Proof::Wrong { open, missing }, _) => {
                self.status = IsolationStatus::Wrong([open.as_slice(), missing].concat().join("; "));
            }
            (Proof::Inconclusive(_), IsolationStatus::Proved(at)) if now.saturating_sub(*at) < self.every * PERIODS => {
            }
            // The earlier finding remains the reason.
            (Proof::Inconclusive(_), IsolationStatus::Wrong(_)) => {}
            (Proof::Inconclusive(why), _) => {
                self.status = IsolationStatus::Unknown(format!(
                    "the network isolation of algorithms could not be checked: {why}"
                ));
            }
        }
        self.failures += 1;
        Backoff { first: FIRST_PAUSE, longest: LONGEST_PAUSE.min(self.every) }.full(self.failures)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Expected::{Closed, ClosedIfThere, ClosedService};
    use Outcome::{NoWay, None, Open, Refused, Silent};

    fn proof(tries: &[(Expected, Outcome)]) -> Proof {
        let target = |(number, (expected, _)): (usize, &(Expected, Outcome))| Target {
            name: format!("t{number}"),
            attempt: Try { to: "a:1".into(), how: How::Tcp },
            expected: *expected,
        };
        let targets: Vec<Target> = tries.iter().enumerate().map(target).collect();
        let outcomes = tries.iter().map(|(_, outcome)| *outcome).collect();
        judge(&targets, &Findings { outcomes, machine: String::new() })
    }

    #[test]
    fn walls_are_proved_by_what_surely_listens() {
        let reached = Expected::Open;
        let wrong = |what: &str| Proof::Wrong { open: vec![what.to_owned()], missing: vec![] };
        let lacks = |what: &str| Proof::Wrong { open: vec![], missing: vec![what.to_owned()] };
        for (tries, expected) in [
            (&[(reached, Open), (Closed, Silent)][..], Proof::Isolated),
            (&[(reached, Open), (Closed, Refused)], Proof::Isolated),
            (&[(reached, Open), (Closed, NoWay)], Proof::Isolated),
            (&[(reached, Open), (Closed, Open)], wrong("t1 (a:1) can be reached")),
            (&[(reached, Silent), (Closed, Silent)], lacks("t0 (a:1) can't be reached: there is no answer")),
            (&[(reached, Refused), (Closed, Silent)], lacks("t0 (a:1) can't be reached: the connection is refused")),
            // A target that refuses where the policies drop packets is not protected by a policy.
            (&[(Closed, Silent), (ClosedIfThere, Silent)], Proof::Isolated),
            (
                &[(Closed, Silent), (ClosedIfThere, Refused)],
                wrong("t1 (a:1) can be reached: it refuses the connection itself"),
            ),
            (&[(Closed, Refused), (ClosedIfThere, Refused)], Proof::Isolated),
            (&[(Closed, Silent), (ClosedIfThere, NoWay)], Proof::Isolated),
            // The cluster itself refuses connections to Services without endpoints.
            (&[(Closed, Silent), (ClosedService, Refused)], Proof::Isolated),
            (&[(Closed, Silent), (ClosedService, Open)], wrong("t1 (a:1) can be reached")),
            // All findings are reported.
            (
                &[(reached, Silent), (Closed, Open), (ClosedIfThere, Open)],
                Proof::Wrong {
                    open: vec!["t1 (a:1) can be reached".into(), "t2 (a:1) can be reached".into()],
                    missing: vec!["t0 (a:1) can't be reached: there is no answer".into()],
                },
            ),
        ] {
            assert_eq!(proof(tries), expected, "{tries:?}");
        }
        for nothing in [&[][..], &[(reached, Open)], &[(reached, Open), (Closed, None), (ClosedIfThere, Silent)]] {
            assert!(matches!(proof(nothing), Proof::Inconclusive(_)), "{nothing:?}");
        }
        assert!(matches!(
            judge(&[], &Findings { outcomes: vec![Open], machine: String::new() }),
            Proof::Inconclusive(_)
        ));
    }

    #[test]
    fn the_gate_opens_after_a_check_and_shuts_when_isolation_is_lost() {
        let hour = Duration::from_secs(3600);
        let wrong = || Proof::Wrong { open: vec!["x can be reached".into()], missing: vec![] };
        let untried = || Proof::Inconclusive("no machine".into());
        let mut isolation_monitor = IsolationMonitor::new(hour, false);
        let mut step = |proof: Proof, hours: u32, open: bool, seconds: u64, words: &str| {
            let pause = isolation_monitor.record(&proof, hour * hours);
            let shown = format!("{proof:?} at {hours} h: {isolation_monitor:?}");
            assert_eq!(isolation_monitor.gate() == Gate::Open, open, "{shown}");
            assert_eq!(pause.as_secs(), seconds, "{shown}");
            if let Gate::Shut(why) = isolation_monitor.gate() {
                assert!(why.contains(words), "{shown}");
            }
        };
        step(untried(), 0, false, 15, "no machine");
        step(wrong(), 0, false, 30, "x can be reached");
        step(untried(), 0, false, 60, "x can be reached");
        step(wrong(), 0, false, 120, "x can be reached");
        step(Proof::Isolated, 1, true, 3600, "");
        // A result stays valid for a while if later checks are inconclusive.
        step(untried(), 2, true, 15, "");
        step(untried(), 3, true, 30, "");
        step(untried(), 4, false, 60, "no machine");
        step(Proof::Isolated, 5, true, 3600, "");
        step(wrong(), 6, false, 15, "x can be reached");
        step(untried(), 6, false, 30, "x can be reached");
        step(Proof::Isolated, 6, true, 3600, "");
    }

    proptest::proptest! {
        /// Whatever the order of results, the gate is open only after a successful check that no later one has contradicted, and that
        /// is not old.
        #[test]
        fn an_open_gate_has_a_proof(proofs in proptest::collection::vec((0..3u8, 0..5000u64), 1..50)) {
            let every = Duration::from_secs(3600);
            let mut isolation_monitor = IsolationMonitor::new(every, false);
            let (mut now, mut proved) = (0, std::option::Option::<u64>::None);
            for (kind, seconds) in proofs {
                now += seconds;
                let proof = match kind {
                    0 => Proof::Isolated,
                    1 => Proof::Wrong { open: vec![], missing: vec!["x".into()] },
                    _ => Proof::Inconclusive("y".into()),
                };
                let pause = isolation_monitor.record(&proof, Duration::from_secs(now));
                match proof {
                    Proof::Isolated => proved = Some(now),
                    Proof::Wrong { .. } => proved = std::option::Option::None,
                    Proof::Inconclusive(_) => proved = proved.filter(|at| now - at < 3 * 3600),
                }
                proptest::prop_assert_eq!(isolation_monitor.gate() == Gate::Open, proved.is_some());
                proptest::prop_assert!(pause >= FIRST_PAUSE && pause <= every);
            }
        }
    }

    #[test]
    fn who_goes_on_regardless_has_an_open_gate() {
        let mut isolation_monitor = IsolationMonitor::new(Duration::from_secs(60), true);
        for proof in
            [Proof::Inconclusive(String::new()), Proof::Wrong { open: vec![], missing: vec![] }, Proof::Isolated]
        {
            isolation_monitor.record(&proof, Duration::ZERO);
            assert_eq!(isolation_monitor.gate(), Gate::Open);
        }
    }

    #[test]
    fn findings_fit_a_termination_message() {
        let findings = Findings { outcomes: vec![Outcome::Refused; 200], machine: "10.0.0.1".into() };
        let text = serde_json::to_string(&findings).unwrap();
        assert!(text.len() < 4096, "{}", text.len());
        assert_eq!(serde_json::from_str::<Findings>(&text).unwrap(), findings);
    }
}
