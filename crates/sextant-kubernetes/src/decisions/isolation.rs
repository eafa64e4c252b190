//! Whether algorithms are isolated from the network: what a probe tries, what its findings mean, and whether runs may be launched.
//!
//! A probe is a pod that looks like an algorithm's to the cluster. It must reach the proxy and the data port, and nothing else that it
//! tries. No run is launched until that has been confirmed, and none after a check has failed.

use backoff::Backoff;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sextant_core::gate::Gate;

/// The longest pause before something that failed is tried again.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// The first of these pauses.
const FIRST_PAUSE: Duration = Duration::from_secs(15);
/// How many periods a proof stays valid if no further one can be made, for example because the cluster is full.
const PERIODS: u32 = 3;

/// In a [`Try`]'s address: the machine that the probe runs on.
pub const MACHINE: &str = "machine";
/// In a [`Try`]'s address: the API server as pods know it, with its own port.
pub const API_SERVER: &str = "api-server";
/// In a [`Try`]'s address: where clusters usually have their DNS, the tenth address of the Services.
pub const DNS: &str = "dns";

/// One thing that a probe tries to reach.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Try {
    /// `host:port`, where the host is an IP address or one of the words [`MACHINE`], [`API_SERVER`] and [`DNS`], which the
    /// probe knows better than the node.
    pub to: String,
    /// How.
    pub how: How,
}

/// How a probe tries to reach something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum How {
    /// It connects.
    Tcp,
    /// It asks for a name.
    Udp,
    /// It asks for an answer in HTTP, whatever the answer is.
    Http,
    /// It shakes hands with who has the key of this pin.
    Pinned(String),
}

/// What came of a try.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// There was an answer.
    Open,
    /// Something said no: there is nothing at this port, or a policy that refuses.
    Refused,
    /// There was no answer.
    Silent,
    /// The network reported that there is no route.
    NoWay,
    /// There is no such thing here, so it was not tried.
    None,
}

/// What a probe reports: its termination message.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Findings {
    /// In the order of the tries.
    pub outcomes: Vec<Outcome>,
    /// The machine that it ran on.
    pub machine: String,
}

/// A try, and what its outcome means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// What it is, for the operator.
    pub name: String,
    /// The try.
    pub attempt: Try,
    /// How it must turn out.
    pub expected: Expected,
}

/// How a try must turn out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// Algorithms need it.
    Open,
    /// Algorithms must not reach it, and it surely listens: a refusal comes from a policy.
    Closed,
    /// Algorithms must not reach it, and whether it listens is not known. A refusal may come from a policy or from the thing
    /// itself, which then was reached.
    ClosedIfThere,
    /// Algorithms must not reach it; an address that the cluster itself refuses where nothing is behind it.
    ClosedService,
}

/// What a proof came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proof {
    /// Every try turned out as it must.
    Isolated,
    /// Some did not; each in words for the operator.
    Wrong {
        /// What can be reached and must not be.
        open: Vec<String>,
        /// What algorithms need and can't reach.
        missing: Vec<String>,
    },
    /// The isolation could not be tried, and why.
    Inconclusive(String),
}

/// What a probe's findings mean.
pub fn judge(targets: &[Target], findings: &Findings) -> Proof {
    if targets.len() != findings.outcomes.len() {
        return Proof::Inconclusive(format!(
            "the probe reported {} of {} attempts",
            findings.outcomes.len(),
            targets.len()
        ));
    }
    let both = || targets.iter().zip(findings.outcomes.iter().copied());
    // What is known to listen shows whether the policies refuse connections or drop them.
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

/// What is known of the isolation.
#[derive(Debug)]
pub struct IsolationMonitor {
    every: Duration,
    /// Whether runs are launched although they may not be isolated.
    allow_unisolated: bool,
    status: IsolationStatus,
    failures: u32,
}

#[derive(Debug)]
enum IsolationStatus {
    /// Proved at this time.
    Proved(Duration),
    /// Not isolated, or cut off from what they need.
    Wrong(String),
    /// Not known, and why.
    Unknown(String),
}

impl IsolationMonitor {
    /// Without a proof yet. `allow_unisolated`: runs are launched whatever the proofs come to.
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

    /// Whether runs are launched whatever the proofs come to.
    pub fn allow_unisolated(&self) -> bool {
        self.allow_unisolated
    }

    /// Records a proof; `now` is the time since any fixed moment. Returns how long to wait before the next proof.
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
            // What was found wrong is still the reason.
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
            // Whoever refuses where the policies drop packets is behind none.
            (&[(Closed, Silent), (ClosedIfThere, Silent)], Proof::Isolated),
            (
                &[(Closed, Silent), (ClosedIfThere, Refused)],
                wrong("t1 (a:1) can be reached: it refuses the connection itself"),
            ),
            (&[(Closed, Refused), (ClosedIfThere, Refused)], Proof::Isolated),
            (&[(Closed, Silent), (ClosedIfThere, NoWay)], Proof::Isolated),
            // The cluster itself refuses Services that nothing is behind.
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
        // What could not be tried holds for a while.
        step(untried(), 2, true, 15, "");
        step(untried(), 3, true, 30, "");
        step(untried(), 4, false, 60, "no machine");
        step(Proof::Isolated, 5, true, 3600, "");
        step(wrong(), 6, false, 15, "x can be reached");
        step(untried(), 6, false, 30, "x can be reached");
        step(Proof::Isolated, 6, true, 3600, "");
    }

    proptest::proptest! {
        /// Whatever comes in whatever order: the gate is open only after a proof that nothing has contradicted since, and that
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
