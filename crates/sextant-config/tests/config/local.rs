//! What is under `local:`.

use sextant_config::{LocalConfig, RuntimeConfig};

use crate::{LEAST, mistakes, warnings, with};

fn local(text: &str) -> LocalConfig {
    match with(text).runtime {
        RuntimeConfig::Local(local) => local,
        RuntimeConfig::Kubernetes(_) => panic!("the local runtime was asked for"),
    }
}

#[test]
fn commands_are_texts_or_lists() {
    let table = [
        ("python -m average", vec!["python", "-m", "average"]),
        ("'python -c \"print(1 + 1)\"'", vec!["python", "-c", "print(1 + 1)"]),
        ("[python, -c, print(1 + 1)]", vec!["python", "-c", "print(1 + 1)"]),
        // No shell: nothing is special but quotation marks.
        ("'run $HOME; *'", vec!["run", "$HOME;", "*"]),
        ("{command: run, package: average}", vec!["run"]),
    ];
    for (text, expected) in table {
        let local = local(&format!("local:\n  algorithms:\n    example.org/average: {text}"));
        assert_eq!(local.algorithms["example.org/average"].command, expected, "{text}");
    }
}

#[test]
fn an_algorithm_may_say_more() {
    let local = local(
        "local: {max_concurrent_runs: 2, deadline: 1h, algorithms: {a: {command: run, package: v6-average.py, env: {A: 1}}}}",
    );
    let algorithm = &local.algorithms["a"];
    assert_eq!(algorithm.package.as_deref(), Some("v6-average.py"));
    assert_eq!(algorithm.env["A"], "1");
    assert_eq!(local.max_concurrent_runs.unwrap().get(), 2);
    assert_eq!(local.deadline.as_secs(), 3600);
    assert_eq!(local.output_limit, 700 << 20);
    assert_eq!(crate::local::local("local: {output_limit: 1.5Gi}").output_limit, 3 << 29);
}

#[test]
fn addresses_of_databases_are_fine_and_policies_can_stay_out() {
    let text = "databases: [{label: a, uri: 'postgresql://db/x', type: sql}]\nlocal: {algorithms: {a: run}}";
    assert_eq!(warnings(text), [""; 0]);
    assert_eq!(
        warnings("local:"),
        ["`local.algorithms` lists none, so nothing can run. Add images with their commands."]
    );
    let [warning] = &warnings("local: {algorithms: {a: run, My Algorithm: run}}")[..] else {
        panic!("one is expected")
    };
    assert!(warning.contains("no image can have this name, so no task can ask for it"), "{warning}");
}

#[test]
fn mistakes_are_told_with_place_and_remedy() {
    const COMMAND: &str =
        "expected a command, like `python -m my_algorithm`, or a list of the program and its arguments.";
    let command = |found: &str, advice: &str| format!("5:8: `local.algorithms.a`: found {found}, {COMMAND}{advice}");
    let table = [
        ("a: ''", command("``", "")),
        ("a: []", command("a list", "")),
        ("a: '\"run'", command("`\"run`", " A quotation mark is not closed.")),
        ("a: null", command("nothing", "")),
        ("a: {}", format!("5:5: `local.algorithms.a.command` is missing, {COMMAND}")),
        (
            "a: {command: run, pakage: x}",
            "5:23: `local.algorithms.a.pakage`: there is no such setting. Did you mean `package`?".to_owned(),
        ),
        (
            "a: {command: run, package: a b}",
            "5:32: `local.algorithms.a.package`: found `a b`, expected the name of a Python package.".to_owned(),
        ),
    ];
    for (text, expected) in table {
        assert_eq!(mistakes(&format!("{LEAST}local:\n  algorithms:\n    {text}")), [expected], "{text}");
    }
}
