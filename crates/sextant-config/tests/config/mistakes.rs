//! Each mistake with the very words that its writer reads.

use crate::{LEAST, mistakes};

/// Mistakes in what follows the least that is needed, from line 3 on.
#[test]
fn mistakes_are_told_with_place_and_remedy() {
    const KIND: &str = "one of `csv`, `parquet`, `excel`, `sql`, `sparql`, `omop`, `folder` or `other`";
    let kind = format!("4:33: `databases[0].type`: found `cvs`, expected {KIND}. Did you mean `csv`?");
    let table: &[(&str, &[&str])] = &[
        // The server
        ("port: 70000", &["3:7: `port`: found `70000`, expected a port from 1 to 65535."]),
        ("port: http", &["3:7: `port`: found a text (not shown), expected a port from 1 to 65535."]),
        ("port: [1]", &["3:7: `port`: found a list, expected a port from 1 to 65535."]),
        (
            "api_path: a b",
            &["3:11: `api_path`: found `a b`, expected the path of the server's API, like `/api`, or an empty text."],
        ),
        ("share_config: 'no'", &["3:15: `share_config`: found `no`, expected true or false. Write it without quotes."]),
        (
            "logging: {level: loud}",
            &[
                "3:18: `logging.level`: found a text (not shown), expected one of `NOTSET`, `DEBUG`, `INFO`, `WARNING`, `ERROR` or `CRITICAL`.",
            ],
        ),
        // Walls
        (
            "kubernetes: {isolation: {closed: [example.org]}}",
            &[
                "3:35: `kubernetes.isolation.closed[0]`: found `example.org`, expected a host name or an IP address with a port, like \
               `10.0.0.7:5432`.",
            ],
        ),
        // Databases
        (
            "databases: {default: /people.csv}",
            &[
                "3:12: `databases`: found a mapping, expected a list of databases, each with `label`, `uri` and `type`. \
               Write `- label: default` with `uri` and `type` below it, and likewise for the others.",
            ],
        ),
        ("databases:\n- {label: a, uri: /a.csv, type: cvs}", &[&kind]),
        (
            "databases:\n- {uri: /a.csv}",
            &[
                "4:3: `databases[0].label` is missing, expected the name that tasks ask for.",
                "4:3: `databases[0].type` is missing, expected one of `csv`, `parquet`, `excel`, `sql`, `sparql`, `omop`, `folder` or `other`.",
            ],
        ),
        (
            "databases:\n- {label: my-data, uri: /a.csv, type: csv}",
            &[
                "4:11: `databases[0].label`: found `my-data`, expected a name of letters, digits and underscores that does not begin \
               with a digit. It becomes part of the names of environment variables.",
            ],
        ),
        (
            "databases:\n- {label: a, uri: /a.csv, type: csv}\n- {label: A, uri: /b.csv, type: csv}",
            &[
                "5:11: `databases[1].label`: found `A`, expected a label that no other database has. The other is in line 4; small and \
               capital letters count as the same.",
            ],
        ),
        (
            "databases:\n- {label: data, uri: /a, type: folder}",
            &[
                "4:3: `databases[0]`: found a database with the label `data` at /mnt/data, expected another label. It would hide the \
               node's own folder of that name.",
            ],
        ),
        (
            "databases:\n- {label: tmp, uri: /a/b, type: other, mount_mode: ro}",
            &[
                "4:3: `databases[0]`: found a database with the label `tmp` at /mnt/tmp, expected another label. It would hide the \
               node's own folder of that name.",
            ],
        ),
        (
            "databases:\n- {label: a, uri: /a.csv, type: csv, mount_mode: rw}",
            &[
                "4:50: `databases[0].mount_mode`: found a text (not shown), expected `ro` or `copy`. Databases are read-only here in \
               either mode; it decides on their path.",
            ],
        ),
        (
            "databases:\n- {label: a, uri: 'C:\\a.csv', type: csv}",
            &[
                "4:19: `databases[0].uri`: found `C:\\a.csv`, expected a path of this system, like `/data/people.csv`. This one is of Windows.",
            ],
        ),
        (
            "databases:\n- {label: a, uri: /a.csv, type: csv, env: {a-b: c}}",
            &[
                "4:44: `databases[0].env.a-b`: found a name with other characters, expected letters, digits and underscores.",
            ],
        ),
        // Environment variables
        (
            "algorithm_env:\n  PKG_NAME: x",
            &[
                "4:3: `algorithm_env.PKG_NAME`: found a variable that belongs to the algorithm's image, expected others. Take it out.",
            ],
        ),
        (
            "algorithm_env:\n  1a: x",
            &[
                "4:3: `algorithm_env.1a`: found a name of an environment variable that is none, expected letters, digits and \
               underscores, the first of them no digit.",
            ],
        ),
        (
            "algorithm_env:\n  PASSWORD: [hunter2]",
            &[
                "4:13: `algorithm_env.PASSWORD`: found something else (not shown), expected a single value. Put it in quotes if it is \
               meant as one.",
            ],
        ),
        // Policies: never fewer restrictions than asked for
        (
            "policies:\n  allowed_algorithms: ['^a(', 'b(?!c)']",
            &[
                "4:24: `policies.allowed_algorithms[0]`: found `^a(`, expected an image or a regular expression. It can't be read: \
                 unclosed group. Look-around and back-references of Python are not supported.",
                "4:31: `policies.allowed_algorithms[1]`: found `b(?!c)`, expected an image or a regular expression. It can't be read: \
                 look-around, including look-ahead and look-behind, is not supported. Look-around and back-references of Python are \
                 not supported.",
            ],
        ),
        (
            "policies:\n  allowed_users: [ada]",
            &["4:19: `policies.allowed_users[0]`: found a text (not shown), expected a user's id, a number."],
        ),
        (
            "policies:\n  allowed_algoritms: [a]",
            &["4:3: `policies.allowed_algoritms`: there is no such setting. Did you mean `allowed_algorithms`?"],
        ),
        (
            "policies:\n  allowed_algorithm_stores: [a, 'https://a:b@c.example', '.*', '(']\n  allow_either_whitelist_or_store: 3\n  \
             require_algorithm_pull: maybe",
            &[
                "4:30: `policies.allowed_algorithm_stores[0]`: found `a`, expected the address of an algorithm store, like \
                 `https://store.example.org/api`, or a regular expression.",
                "4:33: `policies.allowed_algorithm_stores[1]`: found `https://[secret]@c.example`, expected the address of an algorithm \
                 store, like `https://store.example.org/api`, or a regular expression.",
                "4:58: `policies.allowed_algorithm_stores[2]`: found `.*`, expected an expression that needs something of an address. \
                 This one matches the empty text, and so the beginning of every address: it would let in all stores.",
                "4:64: `policies.allowed_algorithm_stores[3]`: found `(`, expected the address of an algorithm store, like \
                 `https://store.example.org/api`, or a regular expression. It can't be read: unclosed group. Look-around and back-references of \
                 Python are not supported.",
                "5:36: `policies.allow_either_whitelist_or_store`: found `3`, expected true or false. Write it without quotes.",
                "6:27: `policies.require_algorithm_pull`: found a text (not shown), expected true or false. Write it without quotes.",
            ],
        ),
        (
            "policies: {require_algorithm_pull: true}\nkubernetes: {algorithm_pull_policy: IfNotPresent}",
            &[
                "4:14: `kubernetes.algorithm_pull_policy`: with this, algorithms run that the registry does not have any more, and \
                 `policies.require_algorithm_pull: true` forbids that. Take one of the two out.",
            ],
        ),
        ("polices: {allowed_users: [1]}", &["3:1: `polices`: there is no such setting. Did you mean `policies`?"]),
        // Encryption
        (
            "encryption:\n  enabled: true\n  private_key: ''",
            &[
                "3:1: `encryption.private_key` is missing, expected the path of the organization's private key, a PEM file. Name the \
                 organization's PEM file there; `sextant keys new` makes one if it has none yet.",
            ],
        ),
        (
            "encryption: {enable: false}",
            &[
                "3:1: `encryption.enabled` is missing, expected true or false.",
                "3:14: `encryption.enable`: there is no such setting. Did you mean `enabled`?",
            ],
        ),
        // Registries
        (
            "docker_registries:\n- registry: example.org\n  username: ada",
            &["4:3: `docker_registries[0].password` is missing, expected the account's password."],
        ),
        // The runtime
        (
            "kubernetes:\nlocal:",
            &["4:1: `local`: found a second runtime besides `kubernetes`, expected one. Take one of them out."],
        ),
        ("kubernetes: here", &["3:13: `kubernetes`: found a single value, expected a mapping of settings."]),
    ];
    for (text, expected) in table {
        assert_eq!(mistakes(&format!("{LEAST}{text}")), *expected, "{text}");
    }
}

#[test]
fn addresses_that_make_no_sense_are_told() {
    const EXPECTED: &str = "expected the server's address, like `https://vantage6.example.org`.";
    let table = [
        (
            "vantage6.org",
            format!(
                "1:13: `server_url`: found `vantage6.org`, {EXPECTED} Begin it with `https://` (or `http://` for a trial)."
            ),
        ),
        (
            "htps://a.org",
            format!(
                "1:13: `server_url`: found `htps://a.org`, {EXPECTED} Begin it with `https://` (or `http://` for a trial)."
            ),
        ),
        (
            "https://2001:db8::5",
            format!(
                "1:13: `server_url`: found `https://2001:db8::5`, {EXPECTED} An address of IPv6 stands in brackets: `https://[2001:db8::5]`, and its port, if there is one, behind them."
            ),
        ),
        (
            "https://ada:hunter2@a.org",
            format!(
                "1:13: `server_url`: found something else (not shown), {EXPECTED} Take out the part before the `@`: a node logs in with its \
                 key."
            ),
        ),
        (
            "https://a.org?b",
            format!("1:13: `server_url`: found `https://a.org?b`, {EXPECTED} Take out what follows the `?` or `#`."),
        ),
    ];
    for (url, expected) in table {
        assert_eq!(mistakes(&format!("server_url: {url}\napi_key: k\n")), [expected], "{url}");
    }
    assert_eq!(
        mistakes("server_url: https://a.org:80\nport: 81\napi_key: k\n"),
        ["2:7: `port`: found `81`, expected the same port as in `server_url`. Take one of them out."]
    );
    assert_eq!(
        mistakes("server_url: https://a.org/v6\nport: 443\napi_key: k\n"),
        [
            "2:7: `port`: found `443`, expected none, since `server_url` has a path. Move the path from `server_url` to `api_path`, since \
          the port comes between them."
        ]
    );
}

#[test]
fn all_mistakes_are_told_at_once_in_the_order_of_the_file() {
    let found = mistakes("port: x\nkubernetes: {namespce: a}\ndatabases: 1\nlogging: 2\n");
    let places: Vec<&str> = found.iter().map(|line| line.split(": ").next().unwrap()).collect();
    assert_eq!(
        places,
        [
            "`server_url` is missing, expected the server's address, like `https://vantage6.example.org`.",
            "`api_key` is missing, expected the key that the server gave for this node. Write it here, or name a file with it in \
         `api_key_file`, or set the environment variable SEXTANT_API_KEY.",
            "1:7",
            "2:14",
            "3:12",
            "4:10"
        ]
    );
}

#[test]
fn what_is_not_a_configuration_at_all_is_told() {
    let table = [
        ("", "the file is empty, expected a node's configuration. Write at least `server_url` and `api_key`."),
        (
            "# nothing\n",
            "the file is empty, expected a node's configuration. Write at least `server_url` and `api_key`.",
        ),
        ("just text", "1:1: found a single value, expected settings, one `key: value` a line."),
        ("- a\n", "1:1: found a list, expected settings, one `key: value` a line."),
        ("a: 1\na: 2\n", "2:1: `a`: found a second time, expected once. The first is in line 1; keep one of them."),
        (
            "a: 1\n---\nb: 2\n",
            "2:1: found a second document, expected one. Take out this `---` and what does not belong to the node.",
        ),
        ("a: &x [*x]\n", "1:8: found an alias of something that contains it, expected one of an earlier value."),
        ("a: !!python/none x\n", "1:18: found the tag `tag:yaml.org,2002:python/none`, expected none. Take it out."),
        ("[a]: b\n", "1:1: found a list or mapping as a key, expected a name."),
    ];
    for (text, expected) in table {
        assert!(mistakes(text).contains(&expected.to_owned()), "{text:?}: {:#?}", mistakes(text));
    }
    let broken = mistakes("server_url: https://a.org\napi_key: 'k\n");
    assert!(broken[0].contains("this is not YAML"), "{broken:?}");
    let tab = mistakes("server_url: https://a.org\nlogging:\n\tlevel: INFO\n");
    assert!(tab[0].starts_with("3:"), "{tab:?}");
}

#[test]
fn the_layout_of_older_versions_is_told() {
    let found = mistakes("application:\n  server_url: https://a.org\n");
    let expected = "1:1: `application`: found the layout of vantage6 3 and older, expected that of version 4. Move what is below it to the \
                    beginning of the line, and take out `application`.";
    assert_eq!(found, [expected]);
}
