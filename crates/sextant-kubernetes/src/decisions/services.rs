//! How an algorithm finds the Services that its node provides: in its pod's hosts file, since pods can't resolve names.

use k8s_openapi::api::core::v1::{HostAlias, Service};

/// The addresses of a Service, of all IP families, under the host name that algorithms use.
///
/// # Errors
/// If the Service has no address of its own. The text is for the operator.
pub fn host_aliases(alias: &str, service: &Service) -> Result<Vec<HostAlias>, &'static str> {
    let spec = service.spec.as_ref().ok_or("it has no specification")?;
    if spec.type_.as_deref() == Some("ExternalName") {
        return Err(
            "it is an ExternalName, which is only a name. Write its address into `kubernetes.databases.<label>.egress`",
        );
    }
    let all = spec.cluster_ips.iter().flatten().chain(&spec.cluster_ip);
    let mut addresses: Vec<&String> = all.filter(|ip| !ip.is_empty() && *ip != "None").collect();
    addresses.dedup();
    // `clusterIP` repeats the first of `clusterIPs`.
    if addresses.len() > 1 && addresses.first() == addresses.last() {
        addresses.pop();
    }
    if addresses.is_empty() {
        return Err("it has no cluster IP (`clusterIP: None`), so that its address is not known in advance");
    }
    let alias = |ip: &String| HostAlias { ip: ip.clone(), hostnames: Some(vec![alias.to_owned()]) };
    Ok(addresses.into_iter().map(alias).collect())
}

/// Merges the entries of each address into one, as Kubernetes requires.
pub fn merged(aliases: impl IntoIterator<Item = HostAlias>) -> Vec<HostAlias> {
    let mut all: Vec<HostAlias> = Vec::new();
    for alias in aliases {
        match all.iter_mut().find(|known| known.ip == alias.ip) {
            Some(known) => known.hostnames.get_or_insert_default().extend(alias.hostnames.unwrap_or_default()),
            None => all.push(alias),
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_known_by_its_addresses_of_both_families() {
        for (spec, expected) in [
            (r#"{"clusterIP": "10.0.0.7", "clusterIPs": ["10.0.0.7", "fd00::7"]}"#, Some(vec!["10.0.0.7", "fd00::7"])),
            (r#"{"clusterIP": "fd00::7", "clusterIPs": ["fd00::7"]}"#, Some(vec!["fd00::7"])),
            (r#"{"clusterIP": "10.0.0.7"}"#, Some(vec!["10.0.0.7"])),
            (r#"{"clusterIP": "None", "clusterIPs": ["None"]}"#, None),
            (r#"{"type": "ExternalName", "externalName": "db.example.org"}"#, None),
            ("{}", None),
        ] {
            let service: Service = serde_json::from_str(&format!(r#"{{"spec": {spec}}}"#)).unwrap();
            let found = host_aliases("redis", &service).ok();
            let alias = |ip: &str| HostAlias { ip: ip.to_owned(), hostnames: Some(vec!["redis".to_owned()]) };
            assert_eq!(found, expected.map(|ips| ips.into_iter().map(alias).collect()), "{spec}");
        }
    }

    #[test]
    fn names_of_one_address_are_one_entry() {
        let alias = |ip: &str, name: &str| HostAlias { ip: ip.to_owned(), hostnames: Some(vec![name.to_owned()]) };
        let both = HostAlias { ip: "10.0.0.7".to_owned(), hostnames: Some(vec!["a".to_owned(), "c".to_owned()]) };
        let all = [alias("10.0.0.7", "a"), alias("10.0.0.8", "b"), alias("10.0.0.7", "c")];
        assert_eq!(merged(all), [both, alias("10.0.0.8", "b")]);
    }
}
