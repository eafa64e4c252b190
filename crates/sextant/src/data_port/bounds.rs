//! How many may be connected to the data port, and how often somebody may come.
//!
//! Until it has shown a run's key, a connection is a stranger's. Strangers are few, for each address and in all, and stay for
//! seconds; who shows a key gives the stranger's place back and counts for its run. So an algorithm that floods the port takes no
//! place that another run needs, also where several pods share an address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use vantage6::RunId;

/// Addresses that have not come for so long are forgotten: their rate is full again long before.
const FORGOTTEN: Duration = Duration::from_secs(30);
/// At so many known addresses, those that can be forgotten are looked for.
const MANY: usize = 1024;

/// The bounds.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections that have shown no key.
    pub strangers: usize,
    /// The same, from one address.
    pub strangers_of_source: usize,
    /// Connections from one address in a second; ten times as many may come at once after a quiet time.
    pub rate_of_source: u32,
    /// Connections that have shown a key.
    pub known: usize,
    /// The same, of one run: `receive` has one at a time, and `return`, and what of theirs has broken lasts a little.
    pub known_of_run: usize,
    /// How long a handshake may take, and then a request's head.
    pub patience: Duration,
    /// How long an upload may stand still.
    pub stalled: Duration,
}

impl Limits {
    /// The bounds for a process that may have so many files open. Half of these are for everything else: the server, the
    /// cluster, the proxy.
    pub fn within(open_files: u64) -> Self {
        let all = usize::try_from(open_files.saturating_sub(128) / 2).unwrap_or(usize::MAX).clamp(32, 16 * 1024);
        // Each may make the node hold some 100 KB.
        let strangers = 512.min(all / 4);
        Self {
            strangers,
            strangers_of_source: 32.min(strangers / 4),
            rate_of_source: 50,
            known: all - strangers,
            known_of_run: 8,
            patience: Duration::from_secs(10),
            stalled: Duration::from_secs(60),
        }
    }
}

/// Why somebody is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    /// Too many at once from its address.
    #[error("it has too many connections that show no key")]
    Source,
    /// Too often from its address.
    #[error("it connects too often")]
    Rate,
    /// Too many strangers.
    #[error("there are too many connections that show no key")]
    Strangers,
    /// Too many of its run.
    #[error("its run has too many connections")]
    Run,
    /// Too many in all.
    #[error("there are too many connections")]
    Known,
}

/// Who is connected.
#[derive(Debug)]
pub struct Bounds {
    /// The bounds themselves.
    pub limits: Limits,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    strangers: usize,
    known: usize,
    sources: HashMap<IpAddr, Source>,
    runs: HashMap<RunId, usize>,
}

#[derive(Debug)]
struct Source {
    strangers: usize,
    /// How many connections it may still make, as of `at`.
    left: f64,
    at: Instant,
}

impl Bounds {
    /// Nobody yet.
    pub fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self { limits, state: Mutex::default() })
    }

    /// A connection from an address: its place as a stranger, given back when it is dropped.
    ///
    /// # Errors
    /// Why there is none.
    pub fn enter(self: &Arc<Self>, source: IpAddr, now: Instant) -> Result<Place, Full> {
        let limits = &self.limits;
        let mut state = self.lock();
        if state.sources.len() >= MANY {
            let recent = |source: &Source| now.saturating_duration_since(source.at) < FORGOTTEN;
            state.sources.retain(|_, source| source.strangers > 0 || recent(source));
        }
        let strangers = state.strangers;
        let rate = f64::from(limits.rate_of_source);
        let from = state.sources.entry(source).or_insert(Source { strangers: 0, left: 10.0 * rate, at: now });
        from.left = (10.0 * rate).min(from.left + rate * now.saturating_duration_since(from.at).as_secs_f64());
        from.at = now;
        if from.left < 1.0 {
            return Err(Full::Rate);
        }
        from.left -= 1.0;
        if from.strangers >= limits.strangers_of_source {
            return Err(Full::Source);
        }
        if strangers >= limits.strangers {
            return Err(Full::Strangers);
        }
        from.strangers += 1;
        state.strangers += 1;
        Ok(Place { bounds: self.clone(), source, run: Mutex::new(None) })
    }

    /// Whether nobody is connected.
    #[cfg(any(test, fuzzing))]
    pub(super) fn is_empty(&self) -> bool {
        let state = self.lock();
        (state.strangers, state.known, state.runs.len()) == (0, 0, 0)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn leave(&mut self, source: IpAddr) {
        self.strangers -= 1;
        if let Some(from) = self.sources.get_mut(&source) {
            from.strangers -= 1;
        }
    }
}

/// A connection's place, given back when it is dropped.
#[derive(Debug)]
pub struct Place {
    bounds: Arc<Bounds>,
    /// Where it comes from.
    pub source: IpAddr,
    run: Mutex<Option<RunId>>,
}

impl Place {
    /// It has shown this run's key, and is no stranger any more.
    ///
    /// # Errors
    /// Why there is no place for it.
    pub fn show(&self, run: RunId) -> Result<(), Full> {
        let mut shown = self.run.lock().unwrap_or_else(PoisonError::into_inner);
        if shown.is_some() {
            return Ok(());
        }
        let limits = &self.bounds.limits;
        let mut state = self.bounds.lock();
        if state.known >= limits.known {
            return Err(Full::Known);
        }
        let of_run = state.runs.entry(run).or_default();
        if *of_run >= limits.known_of_run {
            return Err(Full::Run);
        }
        *of_run += 1;
        state.known += 1;
        state.leave(self.source);
        *shown = Some(run);
        Ok(())
    }

    /// Whether it has shown a key.
    pub fn is_known(&self) -> bool {
        self.run.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let run = self.run.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        let mut state = self.bounds.lock();
        let Some(run) = run else { return state.leave(self.source) };
        state.known -= 1;
        if let Some(of_run) = state.runs.get_mut(&run) {
            *of_run -= 1;
            if *of_run == 0 {
                state.runs.remove(&run);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bounds() -> Arc<Bounds> {
        Bounds::new(Limits {
            strangers: 4,
            strangers_of_source: 2,
            rate_of_source: 1,
            known: 3,
            known_of_run: 2,
            ..Limits::within(4096)
        })
    }

    fn ip(last: u8) -> IpAddr {
        [10, 0, 0, last].into()
    }

    #[test]
    fn strangers_are_few_for_each_address_and_in_all() {
        let (bounds, now) = (bounds(), Instant::now());
        let mut places = vec![bounds.enter(ip(1), now).unwrap(), bounds.enter(ip(1), now).unwrap()];
        assert_eq!(bounds.enter(ip(1), now).unwrap_err(), Full::Source);
        places.extend([2, 3].map(|last| bounds.enter(ip(last), now).unwrap()));
        assert_eq!(bounds.enter(ip(4), now).unwrap_err(), Full::Strangers);
        places.clear();
        bounds.enter(ip(4), now).unwrap();
        assert_eq!(bounds.lock().strangers, 0);
    }

    #[test]
    fn who_shows_a_key_takes_no_strangers_place_and_counts_for_its_run() {
        let (bounds, now) = (bounds(), Instant::now());
        let enter = || bounds.enter(ip(1), now).unwrap();
        let known = |run| {
            let place = enter();
            place.show(RunId(run)).map(|()| place)
        };
        let places = [known(1).unwrap(), known(1).unwrap()];
        assert_eq!(known(1).unwrap_err(), Full::Run);
        let other = known(2).unwrap();
        assert!(other.is_known() && !enter().is_known());
        assert_eq!(known(3).unwrap_err(), Full::Known);
        drop((places, other));
        known(1).unwrap();
        assert!(bounds.is_empty());
    }

    #[test]
    fn who_comes_too_often_waits_a_little() {
        let (bounds, now) = (bounds(), Instant::now());
        for _ in 0..10 {
            bounds.enter(ip(1), now).unwrap();
        }
        assert_eq!(bounds.enter(ip(1), now).unwrap_err(), Full::Rate);
        bounds.enter(ip(2), now).unwrap();
        bounds.enter(ip(1), now + Duration::from_secs(1)).unwrap();
    }

    #[test]
    fn addresses_are_forgotten() {
        let (bounds, now) = (bounds(), Instant::now());
        let far = |n: u16| IpAddr::from([10, 1, (n >> 8) as u8, n as u8]);
        for n in 0..2000 {
            bounds.enter(far(n), now + Duration::from_secs(u64::from(n))).unwrap();
        }
        assert!(bounds.lock().sources.len() <= MANY);
    }

    #[test]
    fn the_bounds_lie_below_the_limit_of_open_files() {
        for open_files in [256, 1024, 4096, 65_536, 1 << 20] {
            let limits = Limits::within(open_files);
            assert!(((limits.strangers + limits.known) as u64) < open_files, "{open_files}: {limits:?}");
            assert!(limits.strangers_of_source > 0, "{open_files}: {limits:?}");
        }
    }
}
