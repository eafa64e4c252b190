//! Settings of a regular node for the surroundings of algorithms, and what they are in a cluster: VPN, services, GPUs.

use crate::{LEAST, mistakes, warnings};

#[test]
fn a_vpn_is_refused_with_the_reason() {
    for (setting, runtime) in [
        ("10.76.0.0/16", ""),
        ("'10.76.0.0/16'", "\nkubernetes: {namespace: runs}"),
        ("[10.76.0.0/16]", ""),
        ("true", ""),
        ("10.76.0.0/16", "\nlocal: {algorithms: {a: b}}"),
    ] {
        let said = mistakes(&format!("{LEAST}vpn_subnet: {setting}{runtime}"));
        let [said] = said.as_slice() else { panic!("{setting}: {said:?}") };
        assert!(said.starts_with("3:1: `vpn_subnet`: found a VPN "), "{said}");
        for part in ["privileged containers", "vantage6 5 has dropped it", "Take it out.", "subtasks"] {
            assert!(said.contains(part), "{said}");
        }
    }
    for nothing in ["''", "", "null", "false"] {
        assert_eq!(warnings(&format!("vpn_subnet: {nothing}")), [""; 0], "{nothing}");
    }
}

#[test]
fn services_are_those_of_the_cluster() {
    let docker = "`docker_services.redis`: found a container of Docker, expected a Service of the cluster, too. Run it in the cluster and \
                  write `services: {redis: {namespace: …, name: …, port: …}}` under `kubernetes`, or take it out.";
    for (text, expected) in [
        ("docker_services: {redis: cache}", vec![format!("3:19: {docker}")]),
        (
            "docker_services: {redis: cache}\nkubernetes: {services: {redi: {namespace: tools, name: cache, port: 6379}}}",
            vec![format!("3:19: {docker}")],
        ),
        (
            "docker_services: {redis: cache}\nkubernetes: {services: {redis: {namespace: tools, name: cache}}}",
            vec!["4:25: `kubernetes.services.redis.port` is missing, expected the TCP port of the Service.".to_owned()],
        ),
        (
            "docker_services: [cache]",
            vec![
                "3:18: `docker_services`: found a list, expected a mapping of names to containers. On Kubernetes, write the services into \
                 `kubernetes.services`."
                    .to_owned(),
            ],
        ),
        (
            "kubernetes: {services: {proxyserver: {namespace: tools, name: cache, port: 1}}}",
            vec![
                "3:25: `kubernetes.services.proxyserver`: found a name that no service can have for algorithms, expected another one. It is \
                 the name of the proxy, to which algorithms send their tokens."
                    .to_owned(),
            ],
        ),
        (
            "kubernetes: {services: {a_b: {namespace: tools, name: cache, port: 1}}}",
            vec![
                "3:25: `kubernetes.services.a_b`: found a name that no service can have for algorithms, expected another one. The names of \
                 hosts in pods consist of small letters, digits, `-` and `.`."
                    .to_owned(),
            ],
        ),
        (
            "kubernetes: {services: {a: {namespace: default, name: kubernetes, port: 443}}}",
            vec![
                "3:55: `kubernetes.services.a.name`: found `kubernetes`, expected a service for algorithms. This one is the cluster's API \
                 server."
                    .to_owned(),
            ],
        ),
        (
            "kubernetes: {services: {a: {namespace: v6-jobs, name: b, port: 443}}}",
            vec![
                "3:14: `kubernetes.services.a.namespace`: found the namespace of runs, expected another one. In that one, network policies \
                 let nobody in."
                    .to_owned(),
            ],
        ),
        (
            "kubernetes: {services: {a: {namespace: tools, name: b, port: 0, target_prt: 1}}}",
            vec![
                "3:62: `kubernetes.services.a.port`: found `0`, expected a TCP port from 1 to 65535.".to_owned(),
                "3:65: `kubernetes.services.a.target_prt`: there is no such setting. Did you mean `target_port`?".to_owned(),
            ],
        ),
    ] {
        assert_eq!(mistakes(&format!("{LEAST}{text}")), expected, "{text}");
    }
    let told = warnings("kubernetes: {services: {a: {namespace: kube-system, name: kube-dns, port: 53}}}");
    assert!(told.len() == 2 && told[0].contains("the cluster's own") && told[1].contains("name servers"), "{told:#?}");
}

#[test]
fn mistakes_in_requests_of_gpus_are_told() {
    for (text, expected) in [
        (
            "algorithm_device_requests: {gpus: true}",
            "3:29: `algorithm_device_requests.gpus`: there is no such setting. Did you mean `gpu`?",
        ),
        (
            "algorithm_device_requests: {gpu: true, tpu: true}",
            "3:40: `algorithm_device_requests.tpu`: there is no such setting. Did you mean `gpu`?",
        ),
        (
            "algorithm_device_requests: [gpu]",
            "3:28: `algorithm_device_requests`: found a list, expected a mapping like `{gpu: true}`.",
        ),
        (
            "algorithm_device_requests: {gpu: 2}",
            "3:34: `algorithm_device_requests.gpu`: found `2`, expected true or false. Write it without quotes.",
        ),
        (
            "kubernetes: {gpu: {resource: gpu}}",
            "3:30: `kubernetes.gpu.resource`: found `gpu`, expected a resource of the cluster with its domain, like `nvidia.com/gpu`.",
        ),
        (
            "kubernetes: {gpu: {count: 0}}",
            "3:27: `kubernetes.gpu.count`: found `0`, expected a whole number from 1 on. For no GPUs, take `algorithm_device_requests` out.",
        ),
        (
            "kubernetes: {gpu: {runtime_class: Nvidia}}",
            "3:35: `kubernetes.gpu.runtime_class`: found `Nvidia`, expected the name of a RuntimeClass: small letters, digits, `-` and `.`.",
        ),
        (
            "kubernetes: {gpu: {class: nvidia}}",
            "3:20: `kubernetes.gpu.class`: there is no such setting. The settings here are `count`, `resource` and `runtime_class`.",
        ),
    ] {
        assert_eq!(mistakes(&format!("{LEAST}{text}")), [expected], "{text}");
    }
}
