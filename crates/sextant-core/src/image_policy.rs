//! Decides whether the policies allow a task's image: by the list of algorithms, and by the task's store (vantage6-node 4.15.2,
//! `docker_manager.py`, `is_docker_image_allowed`). A decision may depend on the answers of registries, the server and a store. Then it
//! says what to ask next, and is made again with the answer. Without an answer nothing is allowed.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use printable::excerpt;
use vantage6_types::{StoreId, plain_address};

use super::image_reference::{Digest, ImageReference};
use super::policies::{AllowedAlgorithm, Combination, Policies, is_basics};
use super::policy::Refusal;

/// The image to decide on.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// The image as the task names it.
    pub name: &'a str,
    /// The same name, parsed.
    pub image: &'a ImageReference,
    /// The store that the task comes from, according to the server.
    pub store: Option<StoreId>,
}

/// The answer to a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer<T> {
    /// The requested fact.
    Known(T),
    /// There is no such fact, or access to it is refused. The text is for the operator.
    No(String),
    /// No answer is available now. The text is for the operator.
    Away(String),
}

/// An algorithm that a store has approved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreAlgorithm {
    /// The image, as it was registered in the store.
    pub image: String,
    /// The digest that the store has reviewed.
    pub digest: Option<Digest>,
}

/// A question to answer before a decision can be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// For an image's registry: the digest of its tag.
    Digest(ImageReference),
    /// For the server: the address of a store.
    Store(StoreId),
    /// For the store at this address: the algorithms that it has approved for the task's image.
    Algorithms(String),
}

/// The answers so far.
#[derive(Debug, Default)]
pub struct Facts {
    /// Digests by the full name of the image.
    digests: BTreeMap<String, Answer<Digest>>,
    /// The address of the task's store.
    pub store: Option<Answer<String>>,
    /// The algorithms that the store has approved for the task's image.
    pub algorithms: Option<Answer<Vec<StoreAlgorithm>>>,
}

impl Facts {
    /// Adds the answer of a registry.
    pub fn learn_digest(&mut self, image: &ImageReference, answer: Answer<Digest>) {
        self.digests.insert(image.to_string(), answer);
    }
}

/// The decision that follows from policies and answers.
#[derive(Debug, PartialEq, Eq)]
pub enum Decision {
    /// The image may run. If the decision depends on a digest, only the content with this digest may.
    Admitted(Option<Digest>),
    /// The image may not run. The text explains why, for the operator.
    Refused(Refusal, String),
    /// The question must be answered first.
    Ask(Question),
    /// A dependency is unavailable. The text explains which, for the operator.
    Wait(String),
}

/// The verdict of one of the two lists.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Verdict {
    /// The list is not set.
    Unset,
    Yes(Option<Digest>),
    No(String),
    Ask(Question),
    Away(String),
}

/// Decides on an image, as far as the answers allow.
#[must_use]
pub fn decide(policies: &Policies, subject: Subject<'_>, facts: &Facts) -> Decision {
    if is_basics(subject.name) && !policies.allow_basics_algorithm {
        return Decision::Refused(
            Refusal::Image(subject.name.to_owned()),
            "`allow_basics_algorithm` is false".to_owned(),
        );
    }
    let list = by_list(&policies.allowed_algorithms, subject, facts);
    let not_listed = |why| Decision::Refused(Refusal::Image(subject.name.to_owned()), why);
    let not_of_store = |why| Decision::Refused(Refusal::Store(subject.name.to_owned()), why);
    match policies.combination {
        _ if policies.allowed_stores.is_empty() => single(list, not_listed),
        _ if policies.allowed_algorithms.is_empty() => single(by_store(policies, subject, facts), not_of_store),
        // With both lists, no store is asked about an image that the algorithm list refuses; with either, none about an image that it
        // allows.
        Combination::Both => match list {
            Verdict::No(_) | Verdict::Ask(_) => single(list, not_listed),
            list => match (list, by_store(policies, subject, facts)) {
                (_, store @ (Verdict::No(_) | Verdict::Ask(_))) => single(store, not_of_store),
                (Verdict::Away(why), _) | (_, Verdict::Away(why)) => Decision::Wait(why),
                (Verdict::Yes(Some(here)), Verdict::Yes(Some(there))) if here != there => {
                    not_of_store(format!("the store has approved {there}, and the list allows {here}"))
                }
                (Verdict::Yes(None), Verdict::Yes(Some(there))) => {
                    match allows_approved(policies, subject, &there, facts) {
                        Verdict::Yes(_) => Decision::Admitted(Some(there)),
                        list => single(list, not_listed),
                    }
                }
                (Verdict::Yes(here), Verdict::Yes(there)) => Decision::Admitted(here.or(there)),
                (list, _) => single(list, not_listed),
            },
        },
        Combination::Either => match list {
            Verdict::Yes(_) | Verdict::Ask(_) => single(list, not_listed),
            list => match (list, by_store(policies, subject, facts)) {
                (_, store @ (Verdict::Yes(_) | Verdict::Ask(_))) => single(store, not_of_store),
                (Verdict::Away(why), _) | (_, Verdict::Away(why)) => Decision::Wait(why),
                (Verdict::No(list), Verdict::No(store)) => not_listed(format!("{list}; {store}")),
                (list, _) => single(list, not_listed),
            },
        },
    }
}

/// The decision if only one list counts.
fn single(verdict: Verdict, refused: impl Fn(String) -> Decision) -> Decision {
    match verdict {
        Verdict::Unset => Decision::Admitted(None),
        Verdict::Yes(digest) => Decision::Admitted(digest),
        Verdict::No(why) => refused(why),
        Verdict::Ask(question) => Decision::Ask(question),
        Verdict::Away(why) => Decision::Wait(why),
    }
}

/// The verdict of the algorithm list: by name, else by comparing the image's digest with those of entries for the same repository.
fn by_list(entries: &[AllowedAlgorithm], subject: Subject<'_>, facts: &Facts) -> Verdict {
    if entries.is_empty() {
        return Verdict::Unset;
    }
    if entries.iter().any(|entry| entry.allows(subject.name)) {
        return Verdict::Yes(None);
    }
    let of_repository = |entry: &AllowedAlgorithm| entry.reference().filter(|own| own.is_of_repository(subject.image));
    let candidates: Vec<ImageReference> = entries.iter().filter_map(of_repository).collect();
    if candidates.is_empty() {
        return Verdict::No("it is not in `allowed_algorithms`".to_owned());
    }
    let by_tag = |one: &ImageReference| one.digest.is_none() && subject.image.digest.is_none();
    if candidates.iter().any(|one| by_tag(one) && one.has_tag_of(subject.image)) {
        return Verdict::Yes(None);
    }
    let own = match digest_of(subject.image, facts) {
        Ok(Answer::Known(digest)) => digest,
        Ok(Answer::No(why)) => return Verdict::No(why),
        Ok(Answer::Away(why)) => return Verdict::Away(why),
        Err(question) => return Verdict::Ask(question),
    };
    let mut away = None;
    let mut unknown = None;
    // Entries that name a digest come first, because they cost no request.
    let (named, asked): (Vec<_>, Vec<_>) = candidates.iter().partition(|one| one.digest.is_some());
    for one in named.into_iter().chain(asked) {
        match digest_of(one, facts) {
            Ok(Answer::Known(digest)) if digest == own => return Verdict::Yes(Some(own)),
            Ok(Answer::Known(_)) => {}
            Ok(Answer::No(why)) => unknown = Some(why),
            Ok(Answer::Away(why)) => away = Some(why),
            Err(question) => return Verdict::Ask(question),
        }
    }
    match (away, unknown) {
        (Some(why), _) => Verdict::Away(why),
        (None, Some(why)) => Verdict::No(format!("no entry of its repository has its content ({own}): {why}")),
        (None, None) => Verdict::No(format!("no entry of its repository has its content ({own})")),
    }
}

/// The digest that an image names, or that its registry has. `Err` contains the question to ask first.
fn digest_of(image: &ImageReference, facts: &Facts) -> Result<Answer<Digest>, Question> {
    if let Some(digest) = image.named_digest() {
        return Ok(Answer::Known(digest));
    }
    facts.digests.get(&image.to_string()).cloned().ok_or_else(|| Question::Digest(image.clone()))
}

/// The verdict of the stores: the task's store must be on the list, and it must have approved the image.
fn by_store(policies: &Policies, subject: Subject<'_>, facts: &Facts) -> Verdict {
    let Some(id) = subject.store else {
        return Verdict::No("the task is from no algorithm store".to_owned());
    };
    let url = match &facts.store {
        None => return Verdict::Ask(Question::Store(id)),
        Some(Answer::No(why)) => return Verdict::No(why.clone()),
        Some(Answer::Away(why)) => return Verdict::Away(why.clone()),
        Some(Answer::Known(url)) => url,
    };
    // The token goes to the parsed address, so that address must be what the entries were compared with.
    if plain_address(url).is_none() {
        return Verdict::No(format!(
            "the server has '{}' as its store's address, which is none in its plain form",
            excerpt(url)
        ));
    }
    if !policies.allowed_stores.iter().any(|entry| entry.allows(url)) {
        return Verdict::No(format!("its store, {}, is not in `allowed_algorithm_stores`", excerpt(url)));
    }
    match &facts.algorithms {
        None => Verdict::Ask(Question::Algorithms(url.clone())),
        Some(Answer::No(why)) => Verdict::No(why.clone()),
        Some(Answer::Away(why)) => Verdict::Away(why.clone()),
        Some(Answer::Known(algorithms)) => approved(subject.image, algorithms, url),
    }
}

/// Whether one of a store's algorithms is the image. The content that the store has reviewed must be what runs. An entry without a
/// digest, as in old stores, allows the image by name.
fn approved(image: &ImageReference, algorithms: &[StoreAlgorithm], url: &str) -> Verdict {
    let of_image = entries_of(image, algorithms);
    if of_image.is_empty() {
        return Verdict::No(format!("its store, {}, has not approved it", excerpt(url)));
    }
    if let Some(named) = image.named_digest() {
        return match of_image.iter().any(|(_, digests)| digests.len() == 1 && digests.contains(&named)) {
            true => Verdict::Yes(Some(named)),
            false => Verdict::No(format!("its store, {}, has approved another content than {named}", excerpt(url))),
        };
    }
    let is_same_tag = |entry: &ImageReference| entry.has_tag_of(image);
    let digests = |of: &dyn Fn(&ImageReference) -> bool| -> BTreeSet<Digest> {
        of_image.iter().filter(|(entry, _)| of(entry)).flat_map(|(_, digests)| digests.clone()).collect()
    };
    let of_tag = digests(&is_same_tag);
    let all = if of_tag.is_empty() { digests(&|entry| entry.tag.is_none()) } else { of_tag };
    match (all.first(), all.len()) {
        (Some(digest), 1) => Verdict::Yes(Some(digest.clone())),
        (Some(_), _) => Verdict::No(format!("its store, {}, has approved several contents for it", excerpt(url))),
        (None, _) if of_image.iter().any(|(entry, _)| is_same_tag(entry)) => Verdict::Yes(None),
        (None, _) => Verdict::No(format!("its store, {}, has approved another tag only", excerpt(url))),
    }
}

/// A store's entries for an image's repository, with the digests of each: from its own field, and from its name.
fn entries_of(image: &ImageReference, algorithms: &[StoreAlgorithm]) -> Vec<(ImageReference, BTreeSet<Digest>)> {
    let entry = |algorithm: &StoreAlgorithm| {
        let entry = ImageReference::parse(&algorithm.image).ok().filter(|entry| entry.is_of_repository(image))?;
        let digests = algorithm.digest.clone().into_iter().chain(entry.named_digest()).collect();
        Some((entry, digests))
    };
    algorithms.iter().filter_map(entry).collect()
}

/// Whether the list, which allows an image by name, also allows the content that the store has approved. It does if the store's entry has
/// the same tag.
fn allows_approved(policies: &Policies, subject: Subject<'_>, digest: &Digest, facts: &Facts) -> Verdict {
    let algorithms = match &facts.algorithms {
        Some(Answer::Known(algorithms)) => algorithms.as_slice(),
        _ => &[],
    };
    let is_of_tag = |(entry, digests): &(ImageReference, BTreeSet<Digest>)| {
        digests.contains(digest) && entry.has_tag_of(subject.image)
    };
    if subject.image.digest.is_some() || entries_of(subject.image, algorithms).iter().any(is_of_tag) {
        return Verdict::Yes(Some(digest.clone()));
    }
    let tag = subject.image.tag.as_ref().map(|tag| format!(":{tag}")).unwrap_or_default();
    let name = format!("{}@{digest}", subject.name.strip_suffix(&tag).unwrap_or(subject.name));
    let image = ImageReference { tag: None, digest: Some(digest.to_string()), ..subject.image.clone() };
    by_list(&policies.allowed_algorithms, Subject { name: &name, image: &image, store: subject.store }, facts)
}
