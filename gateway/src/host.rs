//! From the `Host` header to the region that it means. Configuration only, no I/O.
//!
//! The host comes from the `Host` header or an absolute-form target, never from `Forwarded` or
//! `X-Forwarded-Host` (DESIGN section 4).

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use actix_web::dev::RequestHead;
use actix_web::http::header;
use reqwest::header::HeaderValue;
use shared::TenantId;

use crate::config::{ConfigError, Settings};
use crate::region::Region;
use crate::routes::Base;

/// A hostname that this gateway may be asked for: lower case, no port, no trailing dot.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RegionalHost(String);

/// Why a request names no regional host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// There is no `Host` header (RFC 9112 section 3.2 asks for 400).
    #[error("the request has no Host header")]
    Missing,
    /// There are two, or the request target names another one.
    #[error("the request names more than one host")]
    Ambiguous,
    /// The text is no hostname.
    #[error("the host is no hostname")]
    Malformed,
    /// The hostname means no region here.
    #[error("the host is not configured")]
    Unknown,
    /// The hostname means a region that this gateway does not serve.
    #[error("the host's region is not served here")]
    NotServed,
    /// The connection was encrypted for another hostname.
    #[error("the connection is for another host")]
    NotOfConnection,
}

const MAX_NAME: usize = 253;
const MAX_LABEL: usize = 63;

impl RegionalHost {
    /// Parses a host with an optional port. Either one trailing dot or none.
    ///
    /// # Errors
    /// [`HostError::Malformed`] when the text is no hostname, as an IPv6 address, a list, or
    /// anything with user information is not.
    pub fn parse(host: &str) -> Result<Self, HostError> {
        let name = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) && port.len() <= 5 => {
                name
            }
            Some(_) => return Err(HostError::Malformed),
            None => host,
        };
        let name = name.strip_suffix('.').unwrap_or(name);
        if name.len() <= MAX_NAME && name.split('.').all(is_label) {
            Ok(Self(name.to_ascii_lowercase()))
        } else {
            Err(HostError::Malformed)
        }
    }

    /// The name itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Parses the host of a request.
    ///
    /// # Errors
    /// [`HostError`] when there is no host, more than one, or none that is a hostname.
    pub fn of(head: &RequestHead) -> Result<Self, HostError> {
        let mut headers = head.headers().get_all(header::HOST);
        let value = headers.next().ok_or(HostError::Missing)?;
        if headers.next().is_some() {
            return Err(HostError::Ambiguous);
        }
        let named = Self::parse(value.to_str().map_err(|_| HostError::Malformed)?)?;
        match head.uri.authority() {
            // RFC 9112 section 3.2.2 lets the target win. A client that is honest sends the same
            // host twice, so two different ones are refused rather than ranked.
            Some(target) if Self::parse(target.as_str())? != named => Err(HostError::Ambiguous),
            _ => Ok(named),
        }
    }
}

fn is_label(label: &str) -> bool {
    (1..=MAX_LABEL).contains(&label.len())
        && label
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-')
        && !label.starts_with('-')
        && !label.ends_with('-')
}

/// What a served hostname stands for.
#[derive(Clone, Debug)]
pub struct ServedHost {
    /// The region that it means.
    pub region: Arc<Region>,
    /// `scheme://host[:port]/api/v1/scim`, as the tenant's administrator pasted it, for each base.
    pub base_urls: BaseUrls,
    /// The only tenant whose tokens are good here; `None` for all of the region's.
    pub tenant: Option<TenantId>,
}

/// The base URL of a hostname, as the nodes are told it: for each way to spell the base path.
#[derive(Clone, Debug)]
pub struct BaseUrls {
    plain: HeaderValue,
    v2: HeaderValue,
    v1: HeaderValue,
}

impl BaseUrls {
    pub(crate) fn new(base_url: &str) -> Self {
        let with = |base: Base| {
            let url = format!("{base_url}{}", base.suffix());
            // A hostname is made of letters, digits, dots and hyphens.
            HeaderValue::try_from(url).unwrap_or(HeaderValue::from_static(""))
        };
        Self {
            plain: with(Base::Plain),
            v2: with(Base::V2),
            v1: with(Base::V1),
        }
    }

    /// The base URL as the administrator pasted it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.plain.to_str().unwrap_or_default()
    }

    /// The base URL for a base.
    #[must_use]
    pub fn of(&self, base: Base) -> &HeaderValue {
        match base {
            Base::Plain | Base::Admin | Base::Console => &self.plain,
            Base::V2 => &self.v2,
            Base::V1 => &self.v1,
        }
    }
}

/// The hostnames of a configuration; `None` for those of regions that are not served here.
type Table = HashMap<RegionalHost, Option<Arc<ServedHost>>>;

/// All hostnames of this gateway. They can be exchanged while requests are served.
#[derive(Debug)]
pub struct Hosts(RwLock<Arc<Table>>);

impl Hosts {
    /// The table of hostnames: the regions' own, then the configured ones. `public_port` is the
    /// port to show, if any.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] when a name is no hostname or is taken twice.
    pub fn build(
        settings: &Settings,
        regions: &[Arc<Region>],
        public_port: Option<u16>,
    ) -> Result<Self, ConfigError> {
        let table = table(settings, regions, public_port)?;
        Ok(Self(RwLock::new(Arc::new(table))))
    }

    /// Exchanges all hostnames for those of other settings, at once.
    ///
    /// # Errors
    /// As [`Hosts::build`]; then the hostnames stay as they were.
    pub fn exchange(
        &self,
        settings: &Settings,
        regions: &[Arc<Region>],
        public_port: Option<u16>,
    ) -> Result<(), ConfigError> {
        let table = Arc::new(table(settings, regions, public_port)?);
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = table;
        Ok(())
    }

    /// The hostnames of regions that are served here.
    #[must_use]
    pub fn served(&self) -> Vec<RegionalHost> {
        let table = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let served = table.iter().filter(|(_, entry)| entry.is_some());
        served.map(|(host, _)| host.clone()).collect()
    }

    /// What the host of a request stands for.
    ///
    /// # Errors
    /// [`HostError`] when it stands for nothing that is served here.
    pub fn find(&self, head: &RequestHead) -> Result<Arc<ServedHost>, HostError> {
        let host = RegionalHost::of(head)?;
        let table = self.0.read().unwrap_or_else(PoisonError::into_inner);
        match table.get(&host) {
            Some(Some(served)) => Ok(Arc::clone(served)),
            Some(None) => Err(HostError::NotServed),
            None => Err(HostError::Unknown),
        }
    }
}

fn table(
    settings: &Settings,
    regions: &[Arc<Region>],
    public_port: Option<u16>,
) -> Result<Table, ConfigError> {
    let own = settings.regions.keys().map(|region| {
        (
            regional_name(region, &settings.domain),
            region,
            None,
            "domain",
        )
    });
    let further = settings.hostname.iter().map(|entry| {
        let tenant = entry.tenant.clone();
        (entry.name.clone(), &entry.region, tenant, "hostname")
    });
    let mut table = HashMap::new();
    for (name, region, tenant, setting) in own.chain(further) {
        let host = RegionalHost::parse(&name)
            .ok()
            .filter(|_| !name.contains(':'))
            .ok_or_else(|| ConfigError::invalid(setting, format!("{name:?} is no hostname")))?;
        let served = regions.iter().find(|served| served.id == *region);
        let entry = served.map(|region| {
            Arc::new(ServedHost {
                region: Arc::clone(region),
                base_urls: BaseUrls::new(&base_url(settings, &host.0, public_port)),
                tenant,
            })
        });
        if table.insert(host, entry).is_some() {
            let problem = format!("{name:?} stands there twice");
            return Err(ConfigError::invalid(setting, problem));
        }
    }
    Ok(table)
}

/// `global-{region}.{domain}`.
#[must_use]
pub fn regional_name(region: &shared::RegionId, domain: &str) -> String {
    format!("global-{region}.{domain}")
}

/// The base URL that an administrator pastes for a hostname.
#[must_use]
pub fn base_url(settings: &Settings, name: &str, public_port: Option<u16>) -> String {
    let scheme = settings.public_scheme.as_str();
    let port = public_port.map_or_else(String::new, |port| format!(":{port}"));
    format!("{scheme}://{name}{port}{}", shared::link::PUBLIC_SCIM_PATH)
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn case_port_and_one_trailing_dot_do_not_matter() {
        for text in [
            "global-us.example.com",
            "GLOBAL-US.Example.COM",
            "global-us.example.com:8080",
            "global-us.example.com.",
            "global-us.example.com.:443",
            "global-us.example.com:",
        ] {
            let host = RegionalHost::parse(text).unwrap();
            assert_eq!(host.0, "global-us.example.com", "{text}");
        }
    }

    #[test]
    fn what_is_no_hostname_is_malformed() {
        for text in [
            "",
            ".",
            ":80",
            "a..b",
            "a.b..",
            ".a",
            "-a.b",
            "a-.b",
            "a_b.c",
            "user@a.b",
            "a.b,c.d",
            "a.b c.d",
            "a.b/c",
            "a.b:80:80",
            "a.b:x",
            "a.b:123456",
            "[::1]",
            "[::1]:80",
            "ü.example",
            "a.b\0",
            "*.example.com",
        ] {
            assert_eq!(
                RegionalHost::parse(text),
                Err(HostError::Malformed),
                "{text:?}"
            );
        }
        let long = format!("{}.example", "a".repeat(64));
        assert_eq!(RegionalHost::parse(&long), Err(HostError::Malformed));
        let longest = vec!["abcdefg"; 32].join(".");
        assert_eq!(RegionalHost::parse(&longest), Err(HostError::Malformed));
    }

    #[test]
    fn the_target_and_the_header_must_agree() {
        let host = |uri: &str, hosts: &[&str]| {
            let mut request = TestRequest::default().uri(uri);
            for host in hosts {
                request = request.append_header(("host", *host));
            }
            RegionalHost::of(request.to_http_request().head()).map(|host| host.0)
        };
        let target = "http://global-us.localhost:8080/api/v1/scim/Users";
        assert_eq!(host("/", &["a.b"]), Ok("a.b".to_owned()));
        assert_eq!(
            host(target, &["global-us.localhost"]),
            Ok("global-us.localhost".to_owned())
        );
        assert_eq!(
            host(target, &["global-de.localhost"]),
            Err(HostError::Ambiguous)
        );
        assert_eq!(host("http://u:p@a.b/", &["a.b"]), Err(HostError::Malformed));
        assert_eq!(host("/", &[]), Err(HostError::Missing));
        assert_eq!(host("/", &["a.b", "a.b"]), Err(HostError::Ambiguous));
    }

    proptest! {
        #[test]
        fn parsing_never_fails_badly_and_is_idempotent(text in ".{0,300}") {
            if let Ok(host) = RegionalHost::parse(&text) {
                prop_assert_eq!(RegionalHost::parse(&host.0), Ok(host.clone()));
                prop_assert!(host.0.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.')));
            }
        }
    }
}
