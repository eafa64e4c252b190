//! Expressions of `policies` that are wider than they look in ways that are easily overlooked: digests, repetitions, domains of everybody.

use super::Verdict::{Silent, Warned};
use super::judge;
use super::policies::algorithm;

#[test]
fn a_digest_behind_a_tag_is_told() {
    const CONTENT: &str = "the tag is not looked at";
    for entry in [
        "^registry\\.example\\.org/avg:1(@|$)",
        "^registry\\.example\\.org/avg:1(@.*)?$",
        "^registry\\.example\\.org/avg:1@",
        "^registry\\.example\\.org/avg:1(@sha256:[0-9a-f]{64})?$",
        "^registry\\.example\\.org/avg:1@sha256:[0-9a-f]+$",
        "^registry\\.example\\.org/avg:\\d+\\.\\d+(@|$)",
        "^registry\\.example\\.org/(avg|sum):(1|2)(@|$)",
        "^approved/avg:1(@|$)",
        "^avg:latest(@|$)",
        "^localhost:5000/avg:1(@|$)",
    ] {
        algorithm(entry, Warned(CONTENT));
    }
    algorithm("^registry\\.example\\.org/avg:1@?", Warned("nothing in the expression ends the name"));
}

#[test]
fn a_part_that_is_repeated_is_told() {
    for entry in [
        "^registry\\.example\\.org+/avg$",
        "^registry\\.exam+ple\\.org/avg$",
        "^registry\\.exam{1,3}ple\\.org/",
        "^(registry)+\\.org/avg$",
        "^ghcr\\.io/iknl+/avg$",
        "^iknl+/avg$",
        "^r+\\.azurecr\\.io/avg$",
    ] {
        algorithm(entry, Warned("with a part repeated"));
    }
    for entry in
        ["^(sub\\.)+example\\.org/avg$", "^registry\\.example\\.org/averag+e$", "^registry+\\.example\\.org/avg$"]
    {
        algorithm(entry, Silent);
    }
}

#[test]
fn an_account_that_goes_on_is_told() {
    for entry in [
        "^ghcr\\.io/iknl.*:1$",
        "^ghcr\\.io/iknl[\\w/-]*:1$",
        "^docker\\.io/iknl[^:]+:1$",
        "^quay\\.io/iknl.*average@sha256:[0-9a-f]{64}$",
        "^ghcr\\.io/iknl\\S*@sha256:[0-9a-f]{64}$",
        "^iknl.*:1$",
    ] {
        algorithm(entry, Warned("of any account"));
    }
    for entry in [
        "^ghcr\\.io/iknl/.*:1$",
        "^ghcr\\.io/iknl(/.*)?:1$",
        "^docker\\.io/iknl/[^:]+:1$",
        // Nobody has accounts there but its owner.
        "^registry\\.example\\.org/iknl.*:1$",
    ] {
        algorithm(entry, Silent);
    }
}

#[test]
fn what_is_not_tried_in_full_is_told() {
    let many = |count: usize| (0..count).map(|number| format!("a{number}x")).collect::<Vec<_>>().join("|");
    algorithm(&format!("^registry\\.example\\.org/({})$", many(300)), Warned("more alternatives"));
    algorithm(&format!("^registry\\.example\\.org/({})$", many(200)), Silent);
}

#[test]
fn addresses_in_brackets_are_not_taken_for_expressions_in_silence() {
    for entry in ["[::1]:5000/avg", "^[fd00::1]:5000/avg(@|:|$)", "[2001:db8::1]/team/avg:1"] {
        algorithm(entry, Warned("stands for a single character"));
    }
    let stores = "policies: {allow_basics_algorithm: false, allowed_algorithm_stores: ['https://[fd00::1]:7602/api']}";
    judge(stores, "allowed_algorithm_stores", Warned("stands for a single character"));
}

#[test]
fn domains_of_clouds_and_countries_are_everybodys() {
    for entry in [
        "^[a-z-]+\\.gv\\.at/avg$",
        "^[a-z-]+\\.azurewebsites\\.net/avg$",
        "^[a-z-]+\\.gitbook\\.io/avg$",
        "^[a-z-]+\\.eu\\.org/avg$",
        "^[a-z-]+\\.govt\\.nz/avg$",
    ] {
        algorithm(entry, Warned("in other domains"));
    }
}
