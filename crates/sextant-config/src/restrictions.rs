//! Names that promise a restriction, whether or not such a setting exists. In a wrong place they would restrict nothing, although their
//! writer relies on them.

use super::names;

/// Settings that only count at the top level of the file.
pub(super) const PROTECTING: [&str; 3] = ["encryption", "share_config", "share_algorithm_logs"];
/// The names of policies, in this and in later versions of vantage6.
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
/// Runtime settings that bound what algorithms can do.
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
/// Words for permission and its absence. (`whitelist` is a regular node's setting for addresses.)
const WORDS: [&str; 39] = [
    "accept",
    "accepted",
    "accepts",
    "acl",
    "acls",
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
    "exclude",
    "excluded",
    "excludes",
    "forbid",
    "forbidden",
    "only",
    "permit",
    "permits",
    "permitted",
    "prohibited",
    "reject",
    "rejected",
    "rejects",
    "restrict",
    "restricted",
    "restriction",
    "restrictions",
    "restricts",
    "trusted",
    "verified",
    "vetted",
    "whitelisted",
    "whitelists",
];
/// Words that promise a restriction in combination with a subject of policies: `enable_algorithms`.
const VERBS: [&str; 10] =
    ["disable", "disabled", "disables", "enable", "enabled", "enables", "limit", "limited", "limits", "select"];
/// Subjects of policies. Alone at the top level, or in a database, they mean the allowed ones.
const SUBJECTS: [&str; 8] =
    ["algorithm", "algorithms", "organisation", "organisations", "organization", "organizations", "user", "users"];
/// Words that may accompany a subject without changing the meaning: `algorithm_images`.
const BESIDE_SUBJECTS: [&str; 6] = ["ids", "image", "images", "list", "lists", "names"];
/// Words for sharing or withholding, and for what is shared or withheld: `no_logs`, `hide_columns`.
const GIVING: [&str; 12] =
    ["conceal", "expose", "hidden", "hide", "hides", "no", "private", "publish", "send", "sends", "upload", "uploads"];
const GIVEN: [&str; 9] = ["column", "columns", "config", "configuration", "data", "log", "logs", "result", "results"];
/// Words for a limit, and the subjects of a limit with the runtime setting for each.
const LIMITS: [&str; 7] = ["limit", "limits", "max", "maximum", "quota", "quotas", "timeout"];
const LIMITED: [(&str, &[&str]); 3] = [
    ("resources", &["cpu", "cpus", "disk", "gpu", "gpus", "memory", "mem", "ram", "resource", "storage"]),
    ("max_concurrent_runs", &["concurrency", "concurrent", "jobs", "parallel", "runs", "tasks"]),
    ("deadline", &["duration", "job", "run", "runtime", "task", "time"]),
];

/// Whether this is a runtime setting that bounds what algorithms can do.
pub(super) fn bounds(key: &str) -> bool {
    OF_RUNTIMES.contains(&key) || ["allow_unisolated", "closed", "helper_resources"].contains(&key)
}

/// What a name promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Promise {
    /// Only some algorithms or people are allowed.
    Policy,
    /// Some data is not shared.
    NoSharing,
    /// Inputs and results are encrypted.
    Encryption,
    /// A runtime limit, with the name of the setting.
    Bounds(&'static str),
}

/// Where a name occurs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    /// At the top level.
    Outermost,
    /// In a database.
    Database,
    /// Anywhere else.
    Deeper,
}

/// The promise of a name that is not a setting at its level.
pub(super) fn promise(key: &str, level: Level) -> Option<Promise> {
    let is_outermost = level == Level::Outermost;
    if is_outermost && PROTECTING.contains(&key) {
        return None;
    }
    let words = words(key);
    let has = |wanted: &[&str]| words.iter().any(|word| wanted.contains(&word.as_str()));
    let has_both = |one: &[&str], other: &[&str]| has(one) && has(other);
    // A database's `user` is the account to connect with.
    let is_account = level == Level::Database && key == "user";
    let names_whom = level != Level::Deeper && is_of_subjects(&words) && !is_account;
    if is_like_a_policy(key) || has(&WORDS) || names_whom || has_both(&VERBS, &SUBJECTS) {
        return Some(Promise::Policy);
    }
    let near = |wanted: &[&'static str]| names::nearest(key, wanted.iter().copied());
    if has(&["share", "shares", "sharing"]) || near(&PROTECTING[1..]).is_some() || has_both(&GIVING, &GIVEN) {
        return Some(Promise::NoSharing);
    }
    let is_key = is_outermost && plain(key) == "privatekey";
    if has(&["encrypt", "encrypted", "encrypts", "encryption"]) || near(&PROTECTING[..1]).is_some() || is_key {
        return Some(Promise::Encryption);
    }
    if is_outermost { near(&OF_RUNTIMES).or_else(|| bound(&words)).map(Promise::Bounds) } else { None }
}

/// Whether a name consists only of subjects of policies and accompanying words.
fn is_of_subjects(words: &[String]) -> bool {
    let is_of = |all: &[&str], word: &String| all.contains(&word.as_str());
    words.iter().any(|word| is_of(&SUBJECTS, word))
        && words.iter().all(|word| is_of(&SUBJECTS, word) || is_of(&BESIDE_SUBJECTS, word))
}

/// The runtime setting that limits the subject of a name with a word for a limit.
fn bound(words: &[String]) -> Option<&'static str> {
    let has = |wanted: &[&str]| words.iter().any(|word| wanted.contains(&word.as_str()));
    let of = LIMITED.iter().find(|(_, limited)| has(limited)).map(|(setting, _)| *setting);
    match words {
        _ if !has(&LIMITS) => None,
        [alone] if alone == "timeout" => Some("deadline"),
        [_] => Some("resources"),
        _ => of,
    }
}

/// Whether a name is a policy's, contains a word of one, or is a typo of one.
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

/// Whether a name is a policy's, or at most two edits away from one.
pub(super) fn is_a_policy(key: &str) -> bool {
    let key = plain(key);
    POLICIES.iter().any(|name| strsim::osa_distance(&key, &plain(name)) <= 2)
}

/// A name without separators, in lower case. Only the beginning, since no known name is longer.
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
            assert_eq!(promise(name, Level::Deeper), Some(Promise::Policy), "{name}");
        }
        for name in ["", "port", "whitelist", "algorithm_env", "logging", "databases", "algorithms", "images"] {
            assert_eq!(promise(name, Level::Deeper), None, "{name}");
        }
        assert!(!is_a_policy("restart_policy") && is_a_policy("Polices") && is_a_policy("alowed-user"));
    }

    #[test]
    fn names_that_promise_something_else() {
        let (at_top, deeper) = (Level::Outermost, Level::Deeper);
        for (name, level, expected) in [
            ("share_config", at_top, None),
            ("share_config", deeper, Some(Promise::NoSharing)),
            ("share_logs", at_top, Some(Promise::NoSharing)),
            ("shareAlgorithmLogs", at_top, Some(Promise::NoSharing)),
            ("SHARE_COLUMNS", at_top, Some(Promise::NoSharing)),
            ("shared_folder", at_top, None),
            ("encryption", at_top, None),
            ("encryption", deeper, Some(Promise::Encryption)),
            ("encryptions", at_top, Some(Promise::Encryption)),
            ("encrypted", at_top, Some(Promise::Encryption)),
            ("encrypt_results", at_top, Some(Promise::Encryption)),
            ("max_concurrent_runs", at_top, Some(Promise::Bounds("max_concurrent_runs"))),
            ("maxConcurrentRun", at_top, Some(Promise::Bounds("max_concurrent_runs"))),
            ("resources", deeper, None),
            ("users", at_top, Some(Promise::Policy)),
            ("task_dir", at_top, None),
            ("server_url", at_top, None),
            ("api_key", at_top, None),
        ] {
            assert_eq!(promise(name, level), expected, "{name}");
        }
    }
}
