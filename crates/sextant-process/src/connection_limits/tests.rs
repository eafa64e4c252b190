//! Checks which connections are accepted and which are closed.

use futures::FutureExt as _;

use super::*;

type Limiter = Arc<ConnectionLimiter<u8>>;
type Guard = Arc<ConnectionGuard<u8>>;

fn limiter() -> Limiter {
    ConnectionLimiter::new(ConnectionLimits {
        unauthenticated: 4,
        unauthenticated_per_source: 3,
        rate_per_source: 100,
        authenticated: 4,
        authenticated_per_owner: 3,
    })
}

fn ip(last: u8) -> IpAddr {
    [10, 0, 0, last].into()
}

fn enter(limiter: &Limiter, source: u8) -> Guard {
    limiter.enter(ip(source), Instant::now()).unwrap()
}

/// A connection with a request under way.
fn busy(guard: &Guard) -> ActiveRequest<u8> {
    guard.begin_request()
}

fn is_evicted(guard: &Guard) -> bool {
    guard.evicted().now_or_never().is_some()
}

/// Whether each of these has been evicted.
fn evicted<const N: usize>(guards: [&Guard; N]) -> [bool; N] {
    guards.map(is_evicted)
}

#[test]
fn a_source_at_its_limit_loses_its_own_longest_idle_connection() {
    let limiter = limiter();
    let other = enter(&limiter, 2);
    let (first, second, third) = (enter(&limiter, 1), enter(&limiter, 1), enter(&limiter, 1));
    let _request = busy(&first);
    let fourth = enter(&limiter, 1);
    assert_eq!(evicted([&other, &first, &second, &third, &fourth]), [false, false, true, false, false]);
}

#[test]
fn a_full_port_closes_the_longest_idle_connection_of_the_source_that_has_most() {
    let limiter = limiter();
    let alone = enter(&limiter, 1);
    let (one, two, three) = (enter(&limiter, 2), enter(&limiter, 2), enter(&limiter, 2));
    let newcomer = enter(&limiter, 3);
    assert_eq!(evicted([&alone, &one, &two, &three, &newcomer]), [false, true, false, false, false]);
    assert_eq!(limiter.counts(), ConnectionCounts { unauthenticated: 4, authenticated: 0, evictions: 1 });
}

#[test]
fn among_sources_of_one_connection_each_the_longest_idle_goes_and_a_newcomer_is_let_in() {
    let limiter = limiter();
    let guards: Vec<Guard> = (1..=4).map(|source| enter(&limiter, source)).collect();
    let _requests = [busy(&guards[0]), busy(&guards[1])];
    let newcomer = enter(&limiter, 5);
    assert_eq!(guards.iter().map(is_evicted).collect::<Vec<_>>(), [false, false, true, false]);
    assert!(!is_evicted(&newcomer));
}

#[test]
fn requests_that_never_end_do_not_keep_newcomers_out() {
    let limiter = limiter();
    let held: Vec<Guard> = (1..=4).map(|source| enter(&limiter, source)).collect();
    let _requests: Vec<_> = held.iter().map(busy).collect();
    // Each newcomer has its place until as many have come as there are places, although it has sent nothing yet.
    let mut newcomers: Vec<Guard> = (10..20).map(|source| enter(&limiter, source)).collect();
    assert!(held.iter().all(is_evicted), "in the end those that hold on have gone");
    let last = newcomers.split_off(newcomers.len() - 3);
    assert!(!last.iter().any(is_evicted));
}

#[test]
fn an_authenticated_connection_leaves_its_place_to_others_and_counts_for_its_owner() {
    let limiter = limiter();
    let guards: Vec<Guard> = (0..3).map(|_| enter(&limiter, 1)).collect();
    let _requests: Vec<_> = guards.iter().map(busy).collect();
    for guard in &guards {
        guard.authenticate(7).unwrap();
        guard.authenticate(7).unwrap();
    }
    assert_eq!(limiter.counts(), ConnectionCounts { unauthenticated: 0, authenticated: 3, evictions: 0 });
    let more = enter(&limiter, 1);
    let _request = busy(&more);
    assert_eq!(more.authenticate(7), Err(LimitExceeded::Owner));
    assert!(!more.is_authenticated() && limiter.counts().unauthenticated == 1, "it stays what it was");
    more.authenticate(8).unwrap();
    let last = enter(&limiter, 2);
    let _request = busy(&last);
    assert_eq!(last.authenticate(8), Ok(()), "owner 7 has clearly more");
    assert_eq!(guards.iter().filter(|guard| is_evicted(guard)).count(), 1);
    // Two and two, of which three are at its address: a third of one of them has nobody who would have to give way, a first of somebody else's has.
    let newcomer = enter(&limiter, 1);
    assert_eq!(newcomer.authenticate(8), Err(LimitExceeded::Total));
    assert_eq!(newcomer.authenticate(9), Ok(()));
}

/// Whoever has shown many owners' secrets from one address has one address's part while others come.
#[test]
fn many_owners_at_one_address_give_way_to_other_addresses() {
    for (hoards, comes) in
        [("10.0.0.1", "10.0.0.2"), ("2001:db8::1", "2001:db8:0:1::1"), ("2001:db8::1", "2001:db8::2")]
    {
        let limiter = limiter();
        let at = |address: &str| limiter.enter(address.parse().unwrap(), Instant::now()).unwrap();
        let mut hoard = Vec::new();
        for owner in 1..=4 {
            let guard = at(hoards);
            let request = busy(&guard);
            guard.authenticate(owner).unwrap();
            hoard.push((guard, request));
        }
        let honest = [at(comes), at(comes)];
        let _requests = honest.each_ref().map(busy);
        for guard in &honest {
            assert_eq!(guard.authenticate(9), Ok(()), "{comes}");
        }
        assert_eq!(hoard.iter().map(|(guard, _)| is_evicted(guard)).collect::<Vec<_>>(), [true, true, false, false]);
        // Another of its owners takes nothing from others, however few connections it has.
        let more = at(hoards);
        let _request = busy(&more);
        assert_eq!(more.authenticate(10), Err(LimitExceeded::Total));
        assert_eq!(evicted([&honest[0], &honest[1]]), [false, false]);
    }
}

#[test]
fn idle_authenticated_connections_give_way() {
    let limiter = limiter();
    let guards: Vec<Guard> = (1..=4).map(|source| enter(&limiter, source)).collect();
    for (guard, owner) in guards.iter().zip([1, 1, 1, 2]) {
        guard.authenticate(owner).unwrap();
    }
    let _requests = [busy(&guards[0]), busy(&guards[3])];
    let newcomer = enter(&limiter, 9);
    newcomer.authenticate(3).unwrap();
    assert_eq!(guards.iter().map(is_evicted).collect::<Vec<_>>(), [false, true, false, false]);
    // An owner at its own limit loses one of its own.
    let more = [enter(&limiter, 9), enter(&limiter, 9)];
    more[0].authenticate(3).unwrap();
    assert!(is_evicted(&guards[2]));
    more[1].authenticate(3).unwrap();
    assert_eq!(limiter.counts().authenticated, 4);
    // Whoever has been closed gets no other place.
    assert_eq!(guards[1].authenticate(4), Err(LimitExceeded::Evicted));
}

#[test]
fn what_is_unauthenticated_again_takes_an_unauthenticated_place() {
    let limiter = limiter();
    let guard = enter(&limiter, 1);
    guard.authenticate(1).unwrap();
    let others: Vec<Guard> = (2..=5).map(|source| enter(&limiter, source)).collect();
    guard.unauthenticate();
    assert!(!guard.is_authenticated() && is_evicted(&others[0]));
    guard.unauthenticate();
    assert_eq!(limiter.counts(), ConnectionCounts { unauthenticated: 4, authenticated: 0, evictions: 1 });
    guard.authenticate(2).unwrap();
    guard.authenticate(3).unwrap();
    assert_eq!((limiter.counts().authenticated, limiter.counts().unauthenticated), (1, 3));
}

#[test]
fn counters_come_back_to_zero() {
    let limiter = limiter();
    let guards: Vec<Guard> = (0..40).map(|source| enter(&limiter, source % 7)).collect();
    let requests: Vec<_> = guards.iter().skip(3).map(busy).collect();
    for (number, guard) in guards.iter().enumerate() {
        let _ = guard.authenticate(number as u8 % 3);
        if number % 2 == 0 {
            guard.unauthenticate();
        }
    }
    assert!(!limiter.is_empty());
    drop((guards, requests));
    assert!(limiter.is_empty());
}

#[test]
fn sources_are_ipv4_addresses_and_ipv6_networks() {
    let of = |text: &str| Source::of(text.parse().unwrap());
    assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff:ffff:ffff:ffff"));
    assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
    assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.1"));
    assert_ne!(of("::ffff:10.0.0.1"), of("::ffff:10.0.0.2"));
    assert_ne!(of("10.0.0.1"), of("10.0.0.2"));
    let limiter = limiter();
    let network: Vec<_> = (1..=9u128).map(|last| Ipv6Addr::from_bits(0x2001_0db8_u128 << 96 | last).into()).collect();
    let honest = enter(&limiter, 1);
    let guards: Vec<Guard> = network.iter().map(|each| limiter.enter(*each, Instant::now()).unwrap()).collect();
    assert_eq!(guards.iter().filter(|guard| !is_evicted(guard)).count(), 3);
    assert!(!is_evicted(&honest));
}

#[test]
fn who_comes_too_often_waits_a_little() {
    let limits = ConnectionLimits { rate_per_source: 1, ..limiter().limits.clone() };
    let (limiter, now) = (ConnectionLimiter::<u8>::new(limits), Instant::now());
    for _ in 0..10 {
        limiter.enter(ip(1), now).unwrap();
    }
    assert_eq!(limiter.enter(ip(1), now).unwrap_err(), LimitExceeded::Rate);
    limiter.enter(ip(2), now).unwrap();
    limiter.enter(ip(1), now + Duration::from_secs(1)).unwrap();
}

#[test]
fn sources_are_forgotten_and_never_too_many() {
    let (limiter, now) = (limiter(), Instant::now());
    let far = |n: u32| IpAddr::from((10 << 24 | n).to_be_bytes());
    for n in 0..5000 {
        limiter.enter(far(n), now + Duration::from_secs(u64::from(n))).unwrap();
    }
    assert!(limiter.lock().rates.len() <= MANY_SOURCES);
    for n in 0..2 * MOST_SOURCES as u32 {
        limiter.enter(far(n), now).unwrap();
    }
    assert!(limiter.lock().rates.len() <= MOST_SOURCES);
}

proptest::proptest! {
    #[test]
    fn whatever_happens_the_limits_hold(steps in proptest::collection::vec((0..5u8, 0..8u8, 0..20usize), 0..200)) {
        let limiter = limiter();
        let mut guards: Vec<Guard> = Vec::new();
        let mut requests = Vec::new();
        for (what, whose, which) in steps {
            let at = (!guards.is_empty()).then(|| which % guards.len().max(1));
            match (what, at) {
                (0, _) => guards.push(enter(&limiter, whose)),
                (1, Some(at)) => { let _ = guards[at].authenticate(whose); }
                (2, Some(at)) => guards[at].unauthenticate(),
                (3, Some(at)) => requests.push(busy(&guards[at])),
                (4, Some(at)) => { requests.clear(); guards.swap_remove(at); }
                _ => {}
            }
            let counts = limiter.counts();
            proptest::prop_assert!(counts.unauthenticated <= 4 && counts.authenticated <= 4);
            let state = limiter.lock();
            proptest::prop_assert!(state.unauthenticated.by_key.values().all(|each| (1..=3).contains(&each.len())));
            proptest::prop_assert!(state.authenticated.by_key.values().all(|each| (1..=3).contains(&each.len())));
        }
        drop((guards, requests));
        proptest::prop_assert!(limiter.is_empty());
    }
}

/// The pods of a machine have addresses of one network.
#[test]
fn a_flood_from_one_ipv6_address_spares_its_neighbours() {
    let pod = |last: u128| IpAddr::from(Ipv6Addr::from_bits(0xfd00_u128 << 112 | last));
    let (limiter, now) = (limiter(), Instant::now());
    let neighbour = limiter.enter(pod(2), now).unwrap();
    let flood: Vec<_> = (0..2000).map(|_| limiter.enter(pod(1), now)).collect();
    assert_eq!(flood.iter().flatten().count(), 1000, "as many as one address may have in a burst");
    assert!(!is_evicted(&neighbour));
    let newcomer = limiter.enter(pod(3), now).unwrap();
    assert!(!is_evicted(&newcomer) && !is_evicted(&neighbour));
    // Whoever has the whole network has no end of addresses.
    let network = (0..40_000).filter(|last| limiter.enter(pod(1000 + last), now).is_ok()).count();
    assert_eq!(network, 20_000 - 1 - 1 - 1000);
}
