//! Names that promise a restriction, whether or not there is a setting of that name. At a place where nothing reads them they would
//! restrict nothing, while their writer relies on them.

use super::names;

/// What has to stay a key of its own at the beginning of a line.
pub(super) const PROTECTING: [&str; 3] = ["encryption", "share_config", "share_algorithm_logs"];
/// The names of policies, of this and of later nodes.
pub(super) const POLICIES: [&str; 8] = [
    "policies",
    "allowed_algorithms",
    "allowed_users",
    "allowed_organizations",
    "allow_basics_algorithm",
    "allowed_algorithm_stores",
    "allow_either_whitelist_or_store",
    "require_algorithm_pull",
];
/// Settings of a runtime that bound what algorithms can do.
const OF_RUNTIMES: [&str; 11] = [
    "algorithm_pull_policy",
    "deadline",
    "isolation",
    "keep_finished",
    "max_concurrent_runs",
    "output_limit",
    "pending_timeout",
    "pod_security",
    "resources",
    "run_as_user",
    "scratch",
];
/// What people call permission and its absence. (`whitelist` is a setting of regular nodes, for addresses.)
const WORDS: [&str; 26] = [
    "approved",
    "authorised",
    "authorized",
    "banned",
    "blacklist",
    "block",
    "blocked",
    "blocklist",
    "denied",
    "deny",
    "denylist",
    "forbid",
    "forbidden",
    "only",
    "permit",
    "permits",
    "permitted",
    "prohibited",
    "restrict",
    "restricted",
    "restriction",
    "restrictions",
    "restricts",
    "trusted",
    "whitelisted",
    "whitelists",
];
/// What policies are about; so named at the beginning of a line, it means the ones that are allowed.
const SUBJECTS: [&str; 6] = ["algorithm", "algorithms", "organisations", "organizations", "user", "users"];

/// Whether this is a setting of a runtime that bounds what algorithms can do.
pub(super) fn bounds(key: &str) -> bool {
    OF_RUNTIMES.contains(&key) || ["allow_unisolated", "closed", "helper_resources"].contains(&key)
}

/// What a name promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Promise {
    /// That only some algorithms or people are let in.
    Policy,
    /// That something stays here.
    NoSharing,
    /// That inputs and results are encrypted.
    Encryption,
    /// That a runtime keeps algorithms within bounds.
    Bounds(&'static str),
}

/// What a name promises that is none of the settings at the beginning of a line (`is_outermost`), or further in.
pub(super) fn promise(key: &str, is_outermost: bool) -> Option<Promise> {
    if is_outermost && PROTECTING.contains(&key) {
        return None;
    }
    let words = words(key);
    let has = |wanted: &[&str]| words.iter().any(|word| wanted.contains(&word.as_str()));
    if is_like_a_policy(key) || has(&WORDS) || is_outermost && SUBJECTS.contains(&key) {
        return Some(Promise::Policy);
    }
    let near = |wanted: &[&'static str]| names::nearest(key, wanted.iter().copied());
    if has(&["share", "shares", "sharing"]) || near(&PROTECTING[1..]).is_some() {
        return Some(Promise::NoSharing);
    }
    if has(&["encrypt", "encrypted", "encrypts", "encryption"]) || near(&PROTECTING[..1]).is_some() {
        return Some(Promise::Encryption);
    }
    if is_outermost { near(&OF_RUNTIMES).map(Promise::Bounds) } else { None }
}

/// Whether a name is one of a policy, contains a word of one, or is a slip of the finger away from that.
fn is_like_a_policy(key: &str) -> bool {
    let plain = plain(key);
    if plain.contains("polic") || plain.contains("allow") || is_a_policy(key) {
        return true;
    }
    let near = |word: &str| {
        ["policy", "policies", "allowed"].iter().any(|name| word.len() > 4 && strsim::osa_distance(word, name) <= 1)
    };
    words(key).iter().any(|word| near(word))
}

/// Whether a name is one of a policy, or two slips of the finger away from one.
pub(super) fn is_a_policy(key: &str) -> bool {
    let key = plain(key);
    POLICIES.iter().any(|name| strsim::osa_distance(&key, &plain(name)) <= 2)
}

/// A name without what people write in different ways. Only the beginning: no name is longer.
pub(super) fn plain(key: &str) -> String {
    key.chars().take(64).flat_map(char::to_lowercase).filter(|c| c.is_alphanumeric()).collect()
}

/// The words of a name: `nodePolicies` has two, like `node_policies` and `NODE_POLICIES`.
fn words(key: &str) -> Vec<String> {
    let shouted = !key.chars().any(char::is_lowercase);
    let mut words = vec![String::new()];
    for c in key.chars().take(64) {
        if !c.is_alphanumeric() || c.is_uppercase() && !shouted {
            words.push(String::new());
        }
        if let Some(word) = words.last_mut() {
            word.extend(c.to_lowercase().filter(|c| c.is_alphanumeric()));
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_like_a_policys() {
        for name in [
            "policies",
            "Policy",
            "node_policies",
            "nodePolcies",
            "polices",
            "p-o-l-i-c-i-e-s",
            "pоlicies",
            "policies\u{200b}",
            "allowed",
            "alowed_images",
            "ALLOWED_USERS",
            "allowed.algorithms",
            "images-allowed",
            "disallowed_users",
            "require_algoritm_pull",
            "denied_users",
            "blockedOrganizations",
            "PERMITTED_IMAGES",
            "trusted_algorithms",
            "restrict_to",
        ] {
            assert_eq!(promise(name, false), Some(Promise::Policy), "{name}");
        }
        for name in ["", "port", "whitelist", "algorithm_env", "logging", "databases", "algorithms", "images"] {
            assert_eq!(promise(name, false), None, "{name}");
        }
        assert!(!is_a_policy("restart_policy") && is_a_policy("Polices") && is_a_policy("alowed-user"));
    }

    #[test]
    fn names_that_promise_something_else() {
        for (name, outermost, expected) in [
            ("share_config", true, None),
            ("share_config", false, Some(Promise::NoSharing)),
            ("share_logs", true, Some(Promise::NoSharing)),
            ("shareAlgorithmLogs", true, Some(Promise::NoSharing)),
            ("SHARE_COLUMNS", true, Some(Promise::NoSharing)),
            ("shared_folder", true, None),
            ("encryption", true, None),
            ("encryption", false, Some(Promise::Encryption)),
            ("encryptions", true, Some(Promise::Encryption)),
            ("encrypted", true, Some(Promise::Encryption)),
            ("encrypt_results", true, Some(Promise::Encryption)),
            ("max_concurrent_runs", true, Some(Promise::Bounds("max_concurrent_runs"))),
            ("maxConcurrentRun", true, Some(Promise::Bounds("max_concurrent_runs"))),
            ("resources", false, None),
            ("users", true, Some(Promise::Policy)),
            ("task_dir", true, None),
            ("server_url", true, None),
            ("api_key", true, None),
        ] {
            assert_eq!(promise(name, outermost), expected, "{name}");
        }
    }
}
