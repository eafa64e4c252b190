use super::*;
use crate::policies::AllowedStore;

const STORE: &str = "https://store.example.org/api";

fn digest(letter: &str) -> Digest {
    format!("sha256:{}", letter.repeat(64)).parse().unwrap()
}

fn at(image: &str, letter: &str) -> String {
    format!("{image}@{}", digest(letter))
}

fn policies(algorithms: &[&str], stores: &[&str], combination: Combination) -> Policies {
    Policies {
        allowed_algorithms: algorithms.iter().map(|entry| AllowedAlgorithm::new(entry).unwrap()).collect(),
        allowed_stores: stores.iter().map(|entry| AllowedStore::new(entry).unwrap()).collect(),
        combination,
        ..Policies::default()
    }
}

/// What others say: registries of an image, and the store.
#[derive(Default)]
struct World {
    registries: Vec<(String, Answer<Digest>)>,
    store: Option<Answer<String>>,
    algorithms: Option<Answer<Vec<StoreAlgorithm>>>,
}

impl World {
    fn registry(mut self, image: &str, answer: Answer<Digest>) -> Self {
        self.registries.push((ImageReference::parse(image).unwrap().to_string(), answer));
        self
    }

    fn store(self, algorithms: Answer<Vec<StoreAlgorithm>>) -> Self {
        Self { store: Some(Answer::Known(STORE.into())), algorithms: Some(algorithms), ..self }
    }

    /// Asks until there is a decision: that, and how many questions it took.
    fn decide(&self, policies: &Policies, name: &str, store: Option<u64>) -> (Decision, usize) {
        let image = ImageReference::parse(name).unwrap();
        let subject = Subject { name, image: &image, store: store.map(StoreId) };
        let mut facts = Facts::default();
        for asked in 0..20 {
            match decide(policies, subject, &facts) {
                Decision::Ask(Question::Digest(image)) => {
                    let known = self.registries.iter().find(|(known, _)| *known == image.to_string());
                    let answer = known.map_or(Answer::No("no such image".into()), |(_, answer)| answer.clone());
                    facts.learn_digest(&image, answer);
                }
                Decision::Ask(Question::Store(id)) => {
                    assert_eq!(Some(id.0), store);
                    facts.store = self.store.clone();
                }
                Decision::Ask(Question::Algorithms(url)) => {
                    assert_eq!(url, STORE);
                    facts.algorithms = self.algorithms.clone();
                }
                decision => return (decision, asked),
            }
        }
        panic!("the same is asked again and again");
    }
}

fn has(image: &str, digest: Option<Digest>) -> Answer<Vec<StoreAlgorithm>> {
    Answer::Known(vec![StoreAlgorithm { image: image.into(), digest }])
}

/// What a decision comes to, in a word.
fn word(decision: &Decision) -> String {
    match decision {
        Decision::Admitted(None) => "yes".into(),
        Decision::Admitted(Some(digest)) => format!("yes: {}", &digest.to_string()[7..8]),
        Decision::Refused(Refusal::Store(_), _) => "no store".into(),
        Decision::Refused(..) => "no".into(),
        Decision::Wait(_) => "wait".into(),
        Decision::Ask(_) => "ask".into(),
    }
}

#[test]
fn the_list_of_algorithms() {
    let world = || {
        World::default()
            .registry("r.example/x:1", Answer::Known(digest("a")))
            .registry("r.example/x:one", Answer::Known(digest("a")))
            .registry("r.example/x:2", Answer::Known(digest("b")))
            .registry("r.example/x:away", Answer::Away("timeout".into()))
    };
    let (by_a, by_b) = (at("r.example/x", "a"), at("r.example/x", "b"));
    let (one_a, one_b) = (at("r.example/x:1", "a"), at("r.example/x:1", "b"));
    for (entries, image, expected, questions) in [
        (&[][..], "r.example/x:1", "yes", 0),
        (&["r.example/x:1"], "r.example/x:1", "yes", 0),
        (&["r.example/x"], "r.example/x:1", "yes", 0),
        (&["r.example/x"], &one_a, "yes", 0),
        (&["r.example/x:latest"], "r.example/x", "yes", 0),
        (&["^r\\.example/"], "r.example/x:1", "yes", 0),
        (&["r.example/y:1", "s.example/x:1"], "r.example/x:1", "no", 0),
        // A store's task names tag and digest; the tag on the list stands for that content, or does not.
        (&["r.example/x:1"], &one_a, "yes: a", 1),
        (&["r.example/x:1"], &one_b, "no", 1),
        (&["r.example/x:1"], &by_a, "yes: a", 1),
        (&[&by_a], "r.example/x:1", "yes: a", 1),
        (&[&by_b], "r.example/x:1", "no", 1),
        (&[&by_a], &one_a, "yes: a", 0),
        (&[&one_b], &one_a, "no", 0),
        // Two tags of one content.
        (&["r.example/x:1"], "r.example/x:one", "yes: a", 2),
        (&["r.example/x:1"], "r.example/x:2", "no", 2),
        (&["r.example/x:2", "r.example/x:1"], "r.example/x:one", "yes: a", 3),
        // Who can't be asked has not said yes.
        (&["r.example/x:away"], "r.example/x:1", "wait", 2),
        (&["r.example/x:1"], "r.example/x:away", "wait", 1),
        (&["r.example/x:away", "r.example/x:1"], "r.example/x:one", "yes: a", 3),
        (&["r.example/x:1"], "r.example/x:unknown", "no", 1),
        (&["r.example/x:unknown"], "r.example/x:1", "no", 2),
        // What is no name of an image allows itself only, which no task can name.
        (&["r.example/X:1"], "r.example/x:1", "no", 0),
    ] {
        let (decision, asked) = world().decide(&policies(entries, &[], Combination::Both), image, None);
        assert_eq!((word(&decision).as_str(), asked), (expected, questions), "{entries:?} {image}: {decision:?}");
    }
}

#[test]
fn basics_is_on_the_list_like_any_other() {
    let (former, present) = ("harbor2.vantage6.ai/algorithms/basics", "ghcr.io/vantage6/algorithm-basics");
    for (entries, basics, image, expected) in [
        (&[][..], true, former, "yes"),
        (&[], false, former, "no"),
        (&[], false, present, "no"),
        (&["other"], true, former, "no"),
        (&["other"], true, present, "no"),
        (&[former], true, former, "yes"),
        (&[former], false, former, "no"),
        (&[], false, "harbor2.vantage6.ai/algorithms/basics-of-somebody-else", "yes"),
    ] {
        let policies = Policies { allow_basics_algorithm: basics, ..policies(entries, &[], Combination::Both) };
        for version in ["", ":latest", ":2"] {
            let (decision, _) = World::default().decide(&policies, &format!("{image}{version}"), None);
            assert_eq!(word(&decision), expected, "{entries:?} {basics} {image}{version}");
        }
    }
}

#[test]
fn the_stores() {
    let (image, named) = ("r.example/x:1", at("r.example/x:1", "a"));
    let away = || Answer::Away("timeout".into());
    for (stores, name, store, answer, expected) in [
        (STORE, image, None, has(image, Some(digest("a"))), "no store"),
        (STORE, image, Some(3), has(image, Some(digest("a"))), "yes: a"),
        (STORE, image, Some(3), has(image, None), "yes"),
        (STORE, &named, Some(3), has(image, Some(digest("a"))), "yes: a"),
        (STORE, &named, Some(3), has(image, Some(digest("b"))), "no store"),
        (STORE, &named, Some(3), has(image, None), "no store"),
        (STORE, &named, Some(3), has(&named, None), "yes: a"),
        (STORE, &named, Some(3), has("r.example/y:1", Some(digest("a"))), "no store"),
        (STORE, &named, Some(3), has("not an image", Some(digest("a"))), "no store"),
        (STORE, &named, Some(3), Answer::Known(vec![]), "no store"),
        (STORE, &named, Some(3), Answer::No("401".into()), "no store"),
        (STORE, &named, Some(3), away(), "wait"),
        ("https://store.example.org", &named, Some(3), has(image, Some(digest("a"))), "no store"),
        ("^https://store\\.example\\.org/", &named, Some(3), has(image, Some(digest("a"))), "yes: a"),
    ] {
        let world = World::default().store(answer);
        let (decision, _) = world.decide(&policies(&[], &[stores], Combination::Both), name, store);
        assert_eq!(word(&decision), expected, "{stores} {name} {store:?}: {decision:?}");
    }
    for (answer, expected) in [(Answer::No("404".into()), "no store"), (Answer::Away("timeout".into()), "wait")] {
        let world = World { store: Some(answer), ..World::default() };
        let (decision, _) = world.decide(&policies(&[], &[STORE], Combination::Both), &named, Some(3));
        assert_eq!(word(&decision), expected);
    }
}

#[test]
fn what_a_stores_entries_allow() {
    let x = |letter: &str| at("r.example/x:1", letter);
    for (name, entries, expected) in [
        ("r.example/x:1", &[("r.example/x:2", "a")][..], "no store"),
        ("r.example/x:1", &[("r.example/x:2", "a"), ("r.example/x:1", "b")], "yes: b"),
        ("r.example/x:1", &[("r.example/x", "a")], "yes: a"),
        ("r.example/x:1", &[("r.example/x", "a"), ("r.example/x:1", "b")], "yes: b"),
        ("r.example/x:1", &[("r.example/x:1", "a"), ("r.example/x:1", "b")], "no store"),
        ("r.example/x:1", &[("r.example/x:1", ""), ("r.example/x:1", "b")], "yes: b"),
        ("r.example/x:1", &[("r.example/x:1", "")], "yes"),
        ("r.example/x:1", &[("r.example/x:2", "")], "no store"),
        ("r.example/x:1", &[("r.example/x", "")], "no store"),
        ("r.example/x", &[("r.example/x:latest", "")], "yes"),
        ("r.example/x:1", &[(&x("a"), "")], "yes: a"),
        ("r.example/x:1", &[(&x("a"), "b")], "no store"),
        (&x("a"), &[("r.example/x:1", "")], "no store"),
        (&x("a"), &[(&x("a"), "")], "yes: a"),
        (&x("a"), &[(&x("a"), "b")], "no store"),
        (&x("a"), &[("r.example/x:1", ""), ("r.example/x:1", "b")], "no store"),
        (&x("a"), &[("r.example/x:2", "a")], "yes: a"),
    ] {
        let entry = |(image, letter): &(&str, &str)| StoreAlgorithm {
            image: (*image).to_owned(),
            digest: (!letter.is_empty()).then(|| digest(letter)),
        };
        let world = World::default().store(Answer::Known(entries.iter().map(entry).collect()));
        let (decision, _) = world.decide(&policies(&[], &[STORE], Combination::Both), name, Some(3));
        assert_eq!(word(&decision), expected, "{name} {entries:?}: {decision:?}");
    }
}

#[test]
fn a_stores_digest_must_be_on_the_list_too() {
    let x_a = at("r.example/x", "a");
    for (list, approved, expected) in [
        ("r.example/x:1", "r.example/x:1", "yes: a"),
        ("r.example/x:1", "r.example/x", "no"),
        ("^r\\.example/x:1", "r.example/x", "no"),
        ("^r\\.example/", "r.example/x", "yes: a"),
        ("r.example/x", "r.example/x", "yes: a"),
        (&x_a, "r.example/x", "yes: a"),
    ] {
        let world = World::default()
            .store(has(approved, Some(digest("a"))))
            .registry("r.example/x:1", Answer::Known(digest(if list == x_a { "a" } else { "b" })));
        let (decision, _) = world.decide(&policies(&[list], &[STORE], Combination::Both), "r.example/x:1", Some(3));
        assert_eq!(word(&decision), expected, "{list} {approved}: {decision:?}");
    }
}

/// Nobody is asked: the request would go elsewhere than the entry says.
#[test]
fn a_store_whose_address_is_not_what_it_says_is_refused() {
    for (entry, address) in [
        (r"^https://[^/]+\.example\.org/", r"https://evil.example\.example.org/api"),
        (r"^https://store\.example\.org/stores/", "https://store.example.org/stores/../evil/api"),
        (r"^https://store\.example\.org/stores/", "https://store.example.org/stores/%2e%2e/evil/api"),
        (r"^https://store\.example\.org", "https://store.example.org@evil.example/api"),
        (r"^https://store\.example\.org/api$", "https://store.example.org/api\n"),
        ("https://store.example.org/api?x", "https://store.example.org/api?x"),
    ] {
        let world = World { store: Some(Answer::Known(address.into())), ..World::default() };
        let (decision, _) = world.decide(&policies(&[], &[entry], Combination::Both), "r.example/x:1", Some(3));
        assert_eq!(word(&decision), "no store", "{entry} {address}: {decision:?}");
    }
}

#[test]
fn list_and_stores_together() {
    use Combination::{Both, Either};
    const IMAGE: &str = "r.example/x:1";
    let listed: &[&str] = &["r.example/x"];
    let other: &[&str] = &["r.example/y"];
    let unclear: &[&str] = &["r.example/x:2"];
    let yes = || has(IMAGE, Some(digest("a")));
    let no = || Answer::Known(vec![]);
    let away = || Answer::Away("timeout".into());
    for (entries, answer, combination, expected) in [
        (listed, yes(), Both, "yes: a"),
        (listed, no(), Both, "no store"),
        (listed, away(), Both, "wait"),
        (other, yes(), Both, "no"),
        (other, away(), Both, "no"),
        (unclear, yes(), Both, "wait"),
        (unclear, no(), Both, "no store"),
        (listed, away(), Either, "yes"),
        (other, yes(), Either, "yes: a"),
        (other, no(), Either, "no"),
        (other, away(), Either, "wait"),
        (unclear, yes(), Either, "yes: a"),
        (unclear, no(), Either, "wait"),
    ] {
        let world = World::default().store(answer).registry(IMAGE, Answer::Away("timeout".into()));
        let (decision, _) = world.decide(&policies(entries, &[STORE], combination), IMAGE, Some(3));
        assert_eq!(word(&decision), expected, "{entries:?} {combination:?}: {decision:?}");
    }
    // The list allows what the tag is now, and the store has approved what it was.
    let world = World::default()
        .store(yes())
        .registry(IMAGE, Answer::Known(digest("b")))
        .registry("r.example/x:2", Answer::Known(digest("b")));
    let (decision, _) = world.decide(&policies(unclear, &[STORE], Both), IMAGE, Some(3));
    assert_eq!(word(&decision), "no store", "{decision:?}");
    // A regular node lets everything in where either is enough and one is not set.
    let (decision, _) = World::default().decide(&policies(other, &[], Either), IMAGE, None);
    assert_eq!(word(&decision), "no");
    let (decision, _) = World::default().decide(&policies(&[], &[STORE], Either), IMAGE, None);
    assert_eq!(word(&decision), "no store");
}
