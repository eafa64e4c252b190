//! Whether algorithms are walled in: what a probe tries, what its findings mean, and whether runs may be launched.
//!
//! A probe is a pod that the cluster takes for an algorithm's. It must reach the proxy and the data port, and nothing else of
//! what is tried. Nothing is launched until that has been seen, and nothing more when it is no longer so.

use backoff::Backoff;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sextant_core::gate::Gate;

/// The longest pause before something that failed is tried again.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// The first of these pauses.
const FIRST_PAUSE: Duration = Duration::from_secs(15);
/// For so many periods a proof holds when no further one can be made, for example because the cluster is full.
const PERIODS: u32 = 3;

/// In a [`Try`]'s address: the machine that the probe runs on.
pub const MACHINE: &str = "machine";
/// In a [`Try`]'s address: the API server as pods are told of it, with its own port.
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
    /// Something said no: there is nothing at this port, or a wall that refuses.
    Refused,
    /// There was no answer.
    Silent,
    /// Something on the way said that there is no way.
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
    /// Algorithms must not reach it, and it surely listens: a refusal comes from a wall.
    Closed,
    /// Algorithms must not reach it, and whether it listens is not known. A refusal may come from a wall or from the thing
    /// itself, which then was reached.
    ClosedIfThere,
    /// Algorithms must not reach it; an address that the cluster itself refuses where nothing is behind it.
    ClosedService,
}

/// What a proof came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proof {
    /// All is as it must be.
    Walled,
    /// It is not; each in words for the operator.
    Wrong {
        /// What can be reached and must not be.
        open: Vec<String>,
        /// What algorithms need and can't reach.
        missing: Vec<String>,
    },
    /// It could not be tried, and why.
    Untried(String),
}

/// What a probe's findings mean.
pub fn judge(targets: &[Target], findings: &Findings) -> Proof {
    if targets.len() != findings.outcomes.len() {
        return Proof::Untried(format!(
            "the probe told of {} of {} things that it was to try",
            findings.outcomes.len(),
            targets.len()
        ));
    }
    let both = || targets.iter().zip(findings.outcomes.iter().copied());
    // How the walls say no is seen at what surely listens.
    let refuses = both().any(|(target, outcome)| target.expected == Expected::Closed && outcome == Outcome::Refused);
    let open: Vec<String> = both().filter_map(|(target, outcome)| hole(target, outcome, refuses)).collect();
    let missing: Vec<String> = both().filter_map(|(target, outcome)| lack(target, outcome)).collect();
    if !open.is_empty() || !missing.is_empty() {
        return Proof::Wrong { open, missing };
    }
    if both().any(|(target, outcome)| target.expected == Expected::Closed && outcome != Outcome::None) {
        Proof::Walled
    } else {
        Proof::Untried("nothing that surely listens could be tried".into())
    }
}

fn hole(target: &Target, outcome: Outcome, walls_refuse: bool) -> Option<String> {
    let Target { name, attempt: Try { to, .. }, expected } = target;
    match (expected, outcome) {
        (Expected::Open, _) => None,
        (_, Outcome::Open) => Some(format!("{name} ({to}) can be reached")),
        (Expected::ClosedIfThere, Outcome::Refused) if !walls_refuse => {
            Some(format!("{name} ({to}) can be reached: it refuses connections itself"))
        }
        _ => None,
    }
}

fn lack(target: &Target, outcome: Outcome) -> Option<String> {
    let Target { name, attempt: Try { to, .. }, expected } = target;
    let how = match (expected, outcome) {
        (Expected::Open, Outcome::Open) => return None,
        (Expected::Open, Outcome::Refused) => "the connection is refused",
        (Expected::Open, _) => "there is no answer",
        _ => return None,
    };
    Some(format!("{name} ({to}) can't be reached: {how}"))
}

/// What is known of the walls.
#[derive(Debug)]
pub struct Walls {
    every: Duration,
    /// Whether runs are launched whatever the walls are like.
    regardless: bool,
    standing: Standing,
    failures: u32,
}

#[derive(Debug)]
enum Standing {
    /// They were proved at that time.
    Proved(Duration),
    /// Something is wrong with them.
    Wrong(String),
    /// It is not known, and why.
    Unknown(String),
}

impl Walls {
    /// Nothing yet. `regardless`: runs are launched whatever comes out.
    pub fn new(every: Duration, regardless: bool) -> Self {
        let standing = Standing::Unknown("it has not been proved yet that algorithms are walled in".into());
        Self { every, regardless, standing, failures: 0 }
    }

    /// Whether runs may be launched.
    pub fn gate(&self) -> Gate {
        match &self.standing {
            _ if self.regardless => Gate::Open,
            Standing::Proved(_) => Gate::Open,
            Standing::Wrong(why) | Standing::Unknown(why) => Gate::Shut(why.clone()),
        }
    }

    /// Whether runs are launched whatever comes out.
    pub fn regardless(&self) -> bool {
        self.regardless
    }

    /// Takes a proof in; `now` is the time since any fixed moment. Gives how long to wait for the next one.
    pub fn take(&mut self, proof: &Proof, now: Duration) -> Duration {
        match (proof, &self.standing) {
            (Proof::Walled, _) => {
                self.standing = Standing::Proved(now);
                self.failures = 0;
                return self.every;
            }
            (Proof::Wrong { open, missing }, _) => {
                self.standing = Standing::Wrong([open.as_slice(), missing].concat().join("; "));
            }
            (Proof::Untried(_), Standing::Proved(at)) if now.saturating_sub(*at) < self.every * PERIODS => {}
            // What was found wrong is still the reason.
            (Proof::Untried(_), Standing::Wrong(_)) => {}
            (Proof::Untried(why), _) => {
                self.standing =
                    Standing::Unknown(format!("it could not be tried whether algorithms are walled in: {why}"));
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
            (&[(reached, Open), (Closed, Silent)][..], Proof::Walled),
            (&[(reached, Open), (Closed, Refused)], Proof::Walled),
            (&[(reached, Open), (Closed, NoWay)], Proof::Walled),
            (&[(reached, Open), (Closed, Open)], wrong("t1 (a:1) can be reached")),
            (&[(reached, Silent), (Closed, Silent)], lacks("t0 (a:1) can't be reached: there is no answer")),
            (&[(reached, Refused), (Closed, Silent)], lacks("t0 (a:1) can't be reached: the connection is refused")),
            // Whoever refuses where the walls are silent is behind none.
            (&[(Closed, Silent), (ClosedIfThere, Silent)], Proof::Walled),
            (
                &[(Closed, Silent), (ClosedIfThere, Refused)],
                wrong("t1 (a:1) can be reached: it refuses connections itself"),
            ),
            (&[(Closed, Refused), (ClosedIfThere, Refused)], Proof::Walled),
            (&[(Closed, Silent), (ClosedIfThere, NoWay)], Proof::Walled),
            // The cluster itself refuses Services that nothing is behind.
            (&[(Closed, Silent), (ClosedService, Refused)], Proof::Walled),
            (&[(Closed, Silent), (ClosedService, Open)], wrong("t1 (a:1) can be reached")),
            // All of it is told.
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
            assert!(matches!(proof(nothing), Proof::Untried(_)), "{nothing:?}");
        }
        assert!(matches!(judge(&[], &Findings { outcomes: vec![Open], machine: String::new() }), Proof::Untried(_)));
    }

    #[test]
    fn the_gate_opens_after_a_proof_and_shuts_when_a_wall_falls() {
        let hour = Duration::from_secs(3600);
        let wrong = || Proof::Wrong { open: vec!["x can be reached".into()], missing: vec![] };
        let untried = || Proof::Untried("no machine".into());
        let mut walls = Walls::new(hour, false);
        let mut step = |proof: Proof, hours: u32, open: bool, seconds: u64, words: &str| {
            let pause = walls.take(&proof, hour * hours);
            let shown = format!("{proof:?} at {hours} h: {walls:?}");
            assert_eq!(walls.gate() == Gate::Open, open, "{shown}");
            assert_eq!(pause.as_secs(), seconds, "{shown}");
            if let Gate::Shut(why) = walls.gate() {
                assert!(why.contains(words), "{shown}");
            }
        };
        step(untried(), 0, false, 15, "no machine");
        step(wrong(), 0, false, 30, "x can be reached");
        step(untried(), 0, false, 60, "x can be reached");
        step(wrong(), 0, false, 120, "x can be reached");
        step(Proof::Walled, 1, true, 3600, "");
        // What could not be tried holds for a while.
        step(untried(), 2, true, 15, "");
        step(untried(), 3, true, 30, "");
        step(untried(), 4, false, 60, "no machine");
        step(Proof::Walled, 5, true, 3600, "");
        step(wrong(), 6, false, 15, "x can be reached");
        step(untried(), 6, false, 30, "x can be reached");
        step(Proof::Walled, 6, true, 3600, "");
    }

    proptest::proptest! {
        /// Whatever comes in whatever order: the gate is open only after a proof that nothing has contradicted since, and that
        /// is not old.
        #[test]
        fn an_open_gate_has_a_proof(proofs in proptest::collection::vec((0..3u8, 0..5000u64), 1..50)) {
            let every = Duration::from_secs(3600);
            let mut walls = Walls::new(every, false);
            let (mut now, mut proved) = (0, std::option::Option::<u64>::None);
            for (kind, seconds) in proofs {
                now += seconds;
                let proof = match kind {
                    0 => Proof::Walled,
                    1 => Proof::Wrong { open: vec![], missing: vec!["x".into()] },
                    _ => Proof::Untried("y".into()),
                };
                let pause = walls.take(&proof, Duration::from_secs(now));
                match proof {
                    Proof::Walled => proved = Some(now),
                    Proof::Wrong { .. } => proved = std::option::Option::None,
                    Proof::Untried(_) => proved = proved.filter(|at| now - at < 3 * 3600),
                }
                proptest::prop_assert_eq!(walls.gate() == Gate::Open, proved.is_some());
                proptest::prop_assert!(pause >= FIRST_PAUSE && pause <= every);
            }
        }
    }

    #[test]
    fn who_goes_on_regardless_has_an_open_gate() {
        let mut walls = Walls::new(Duration::from_secs(60), true);
        for proof in [Proof::Untried(String::new()), Proof::Wrong { open: vec![], missing: vec![] }, Proof::Walled] {
            walls.take(&proof, Duration::ZERO);
            assert_eq!(walls.gate(), Gate::Open);
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
