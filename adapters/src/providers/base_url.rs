//! Where a vendor or a store is: the one place that decides which hosts may be called.
//!
//! **Invariant:** a request leaves by https, or it stays on this machine.
//! **Invariant:** link-local addresses, where clouds keep their metadata, are never called,
//! whatever a name resolves to at the moment of the call.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::settings::SettingsError;

/// Whether a vendor may be called there.
///
/// # Errors
/// [`SettingsError::BaseUrl`] says why not, without repeating the text.
pub fn check_base_url(text: &str) -> Result<(), SettingsError> {
    BaseUrl::parse(text).map(drop)
}

/// A checked base URL, version path included, for example `https://api.openai.com/v1`.
#[derive(Debug)]
pub(crate) struct BaseUrl {
    url: Url,
    is_here: bool,
}

impl BaseUrl {
    pub(crate) fn parse(text: &str) -> Result<Self, SettingsError> {
        // The text is not repeated: it could hold a password.
        let refuse = |why| Err(SettingsError::BaseUrl { why });
        let Ok(url) = Url::parse(text) else {
            return refuse("it is not a URL");
        };
        if !url.username().is_empty() || url.password().is_some() {
            return refuse("it holds a user or a password");
        }
        if url.query().is_some() || url.fragment().is_some() {
            return refuse("it has a query or a fragment");
        }
        let Some(host) = url.host_str().filter(|host| !host.is_empty()) else {
            return refuse("it names no host");
        };
        let literal = host.trim_matches(['[', ']']).parse::<IpAddr>().ok();
        let is_here = literal.map_or(host == "localhost", |ip| unmapped(ip).is_loopback());
        match url.scheme() {
            "https" => {}
            "http" if is_here => {}
            "http" => return refuse("plain http is for this machine only, use https"),
            _ => return refuse("its scheme is not https"),
        }
        if literal.is_some_and(|ip| !may_be_called(ip, is_here)) {
            return refuse("its address is link-local, unspecified or not of one machine");
        }
        Ok(Self { url, is_here })
    }

    pub(crate) fn is_https(&self) -> bool {
        self.url.scheme() == "https"
    }

    /// Whether the host is this machine by its very name.
    pub(crate) fn is_here(&self) -> bool {
        self.is_here
    }

    /// The URL of `path` below the base. Parts are constants or passed [`is_path_part`].
    pub(crate) fn join(&self, path: &[&str]) -> Url {
        let mut url = self.url.clone();
        url.path_segments_mut()
            .expect("http and https URLs have a path")
            .pop_if_empty()
            .extend(path);
        url
    }
}

/// Whether an id from outside may stand in a path: nothing that ends, climbs or escapes a part.
pub(super) fn is_path_part(id: &str) -> bool {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':');
    !id.is_empty()
        && id.len() <= super::limits::ID_BYTES_MAX
        && id.bytes().all(is_plain)
        && !id.bytes().all(|b| b == b'.')
}

/// Resolves names like the system does and leaves out addresses that must not be called.
pub(crate) struct Screened {
    pub(crate) is_here: bool,
}

impl Resolve for Screened {
    fn resolve(&self, name: Name) -> Resolving {
        let is_here = self.is_here;
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let fit: Vec<_> = found.filter(|it| may_be_called(it.ip(), is_here)).collect();
            if fit.is_empty() {
                return Err("the name resolves to no address that may be called".into());
            }
            Ok(Box::new(fit.into_iter()) as Addrs)
        })
    }
}

/// AWS answers its instance metadata at this unique-local address too.
const METADATA_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

/// Private addresses are allowed: a proxy of one's own lives there. A name that is not this
/// machine's must not lead to it (DNS rebinding).
fn may_be_called(ip: IpAddr, is_here: bool) -> bool {
    let ip = unmapped(ip);
    let is_one_machine = match ip {
        IpAddr::V4(ip) => !(ip.is_link_local() || ip.is_multicast() || ip == Ipv4Addr::BROADCAST),
        IpAddr::V6(ip) => !(ip.is_unicast_link_local() || ip.is_multicast() || ip == METADATA_V6),
    };
    is_one_machine && !ip.is_unspecified() && ip.is_loopback() == is_here
}

/// `::ffff:169.254.169.254` is `169.254.169.254`.
fn unmapped(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(ip, IpAddr::V4),
        IpAddr::V4(_) => ip,
    }
}

#[cfg(test)]
mod tests {
    use std::str::FromStr;

    use super::*;

    #[test]
    fn a_vendor_is_called_by_https_and_this_machine_by_either() {
        for text in [
            "https://api.openai.com/v1",
            "https://litellm.example:4000",
            "https://10.0.0.7/v1",
            "http://127.0.0.1:8080/v1",
            "http://localhost:8080/v1",
            "http://[::1]:8080/v1",
            "https://localhost/v1",
        ] {
            assert!(BaseUrl::parse(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn a_place_that_must_not_be_called_is_refused_without_repeating_it() {
        for text in [
            "",
            "api.openai.com/v1",
            "file:///etc/passwd",
            "ftp://api.openai.com/v1",
            "unix:/run/vault.sock",
            "http://api.openai.com/v1",
            "http://10.0.0.7/v1",
            "http://localhost.example/v1",
            "https://user:hunter2@api.openai.com/v1",
            "https://api.openai.com/v1?key=hunter2",
            "https://api.openai.com/v1#hunter2",
            "https://169.254.169.254/latest/meta-data",
            "http://169.254.169.254/latest/meta-data",
            "https://0xa9fea9fe/latest",
            "https://2852039166/latest",
            "https://[::ffff:169.254.169.254]/latest",
            "https://[fe80::1]/v1",
            "https://[fd00:ec2::254]/latest",
            "https://0.0.0.0/v1",
            "https://[::]/v1",
            "https://255.255.255.255/v1",
            "https://224.0.0.1/v1",
        ] {
            let error = BaseUrl::parse(text).expect_err(text).to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn a_path_is_built_below_the_base_whether_it_ends_in_a_slash_or_not() {
        for text in ["https://api.openai.com/v1", "https://api.openai.com/v1/"] {
            let base = BaseUrl::parse(text).expect("a good base");
            let url = base.join(&["organization", "projects", "proj_a"]);
            assert_eq!(url.as_str(), "https://api.openai.com/v1/organization/projects/proj_a");
        }
    }

    #[test]
    fn an_id_that_would_leave_its_part_of_the_path_is_refused() {
        for id in ["proj_abc", "svc-1", "0df9e665-d932-5740-b2c7-b52af166bc11", "a.b:c"] {
            assert!(is_path_part(id), "{id}");
        }
        let long = "a".repeat(500);
        for id in ["", ".", "..", "...", "a/b", "a?b", "a#b", "a%2fb", "a b", "ä", "a\n", &long] {
            assert!(!is_path_part(id), "{id:?}");
        }
    }

    #[tokio::test]
    async fn a_name_that_leads_to_this_machine_is_not_followed_unless_it_is_its_name() {
        let localhost = || Name::from_str("localhost").expect("a name");
        assert!(Screened { is_here: false }.resolve(localhost()).await.is_err());
        assert!(Screened { is_here: true }.resolve(localhost()).await.is_ok());
    }

    #[test]
    fn an_address_is_judged_as_it_is_at_the_moment_of_the_call() {
        let may = |ip: &str, is_here| may_be_called(ip.parse().expect("an address"), is_here);
        assert!(may("104.18.6.192", false));
        assert!(may("10.0.0.7", false));
        assert!(may("127.0.0.1", true));
        for ip in ["169.254.169.254", "::ffff:169.254.169.254", "fe80::1", "127.0.0.1", "::1"] {
            assert!(!may(ip, false), "{ip}");
        }
        assert!(!may("10.0.0.7", true), "localhost is this machine and nothing else");
    }
}
