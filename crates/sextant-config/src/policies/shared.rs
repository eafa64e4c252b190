//! Domains and registries that are open to everybody: a name below them, or an account in them, may be anybody's. The list is our own,
//! with likely hosts of registries and stores, because the Public Suffix List as code adds more than two megabytes.

/// Domains of clouds and page hosters below which anybody may have a name.
const DOMAINS: [&str; 19] = [
    "amazonaws.com",
    "amazonaws.com.cn",
    "pkg.dev",
    "github.io",
    "gitlab.io",
    "gitlab.com",
    "azurecontainer.io",
    "azurewebsites.net",
    "cloudapp.azure.com",
    "windows.net",
    "cloudfront.net",
    "googleapis.com",
    "appspot.com",
    "run.app",
    "herokuapp.com",
    "netlify.app",
    "vercel.app",
    "pages.dev",
    "workers.dev",
];
/// Likewise, but an account has a whole host: everything on it belongs to one owner.
const HOSTS: [&str; 53] = [
    "azure-api.net",
    "azurecr.cn",
    "azurecr.io",
    "azurecr.us",
    "azurefd.net",
    "azurestaticapps.net",
    "cloudapp.net",
    "code.run",
    "cr.cloud.ru",
    "ddns.net",
    "deno.dev",
    "docker.io",
    "duckdns.org",
    "dyndns.org",
    "elasticbeanstalk.com",
    "eu.org",
    "fastly.net",
    "firebaseapp.com",
    "fly.dev",
    "gitbook.io",
    "hf.space",
    "hopto.org",
    "jfrog.io",
    "koyeb.app",
    "lambda-url.on.aws",
    "mooo.com",
    "myfritz.net",
    "myqcloud.com",
    "ngrok-free.app",
    "ngrok-free.dev",
    "ngrok.app",
    "ngrok.dev",
    "ngrok.io",
    "nip.io",
    "no-ip.org",
    "northflank.app",
    "ondigitalocean.app",
    "onrender.com",
    "ply.gg",
    "r2.dev",
    "railway.app",
    "readthedocs.io",
    "sslip.io",
    "streamlit.app",
    "surge.sh",
    "synology.me",
    "tencentyun.com",
    "trafficmanager.net",
    "trycloudflare.com",
    "ts.net",
    "web.app",
    "xip.io",
    "zapto.org",
];
/// Registries, including all hosts below, where the first part of a path is an account that anybody may have.
const ACCOUNTS: [&str; 19] = [
    "docker.io",
    "hub.docker.com",
    "ecr.aws",
    "gcr.io",
    "ghcr.io",
    "icr.io",
    "ocir.io",
    "aliyuncs.com",
    "bluemix.net",
    "digitalocean.com",
    "scw.cloud",
    "cr.yandex",
    "vultrcr.com",
    "cloudsmith.io",
    "pkg.github.com",
    "registry.fly.io",
    "registry.heroku.com",
    "registry.opensuse.org",
    "tencentyun.com",
];
/// Second-level names before a country's top-level domain, which anybody may register below: `co.uk`.
const SECOND: [&str; 18] = [
    "co", "com", "org", "net", "gov", "gob", "gouv", "edu", "ac", "or", "ne", "go", "nhs", "sch", "gv", "govt", "mil",
    "asso",
];

/// Whether anybody may have a name below a domain: a country's or a cloud's.
pub(in super::super) fn is_shared(domain: &str) -> bool {
    let domain = domain.to_ascii_lowercase();
    let parts: Vec<&str> = domain.split('.').collect();
    let is_of_a_country =
        matches!(parts.as_slice(), [second, country] if country.len() == 2 && SECOND.contains(second));
    parts.len() < 2
        || is_of_a_country
        || DOMAINS.iter().chain(&HOSTS).chain(&ACCOUNTS).any(|shared| ends_with(&domain, shared))
}

/// Whether anybody may have an account at a registry, the first part of its images' paths. This is assumed of registries at the top of
/// their domains, such as docker.io. Organizations have theirs below.
pub(super) fn has_accounts(registry: &str) -> bool {
    let host = registry.split(':').next().unwrap_or(registry).to_ascii_lowercase();
    if is_of_one_at_amazon(&host) {
        return false;
    }
    host.split('.').count() == 2 || DOMAINS.iter().chain(&ACCOUNTS).any(|shared| ends_with(&host, shared))
}

/// Whether this is a customer's own registry at Amazon, which begins with the account number:
/// `123456789012.dkr.ecr.eu-west-1.amazonaws.com`.
fn is_of_one_at_amazon(host: &str) -> bool {
    let mut parts = host.split('.');
    let number = parts.next().unwrap_or_default();
    let is_number = number.len() == 12 && number.chars().all(|c| c.is_ascii_digit());
    is_number
        && parts.next() == Some("dkr")
        && parts.next().is_some_and(|part| part.starts_with("ecr"))
        && ["amazonaws.com", "amazonaws.com.cn"].iter().any(|end| ends_with(host, end))
}

fn ends_with(domain: &str, end: &str) -> bool {
    domain == end || domain.strip_suffix(end).is_some_and(|rest| rest.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_everybody_may_have_a_part_of() {
        for domain in [
            "io",
            "co.uk",
            "azurecr.io",
            "github.io",
            "dkr.ecr.eu-west-1.amazonaws.com",
            "pkg.dev",
            "govt.nz",
            "gv.at",
            "eu.org",
            "gitbook.io",
            "compute.amazonaws.com",
            "eu-west-1.elasticbeanstalk.com",
        ] {
            assert!(is_shared(domain), "{domain}");
        }
        for domain in ["example.org", "co.example", "notgithub.io", "vantage6.ai", "sub.example.co.uk", "example.co.uk"]
        {
            assert!(!is_shared(domain), "{domain}");
        }
        for (registry, expected) in [
            ("docker.io", true),
            ("docker.io:443", true),
            ("europe.pkg.dev", true),
            ("ours.azurecr.io", false),
            ("123456789012.dkr.ecr.eu-west-1.amazonaws.com", false),
            ("dkr.ecr.eu-west-1.amazonaws.com", true),
            ("public.ecr.aws", true),
            ("docker.cloudsmith.io", true),
            ("ccr.ccs.tencentyun.com", true),
            ("registry.fly.io", true),
            ("registry.example.org", false),
            ("localhost", false),
            ("10.0.0.7", false),
        ] {
            assert_eq!(has_accounts(registry), expected, "{registry}");
        }
    }
}
