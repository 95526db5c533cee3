//! [`Egress`]: the one way by which a node calls somebody whom a tenant's administrator names.
//!
//! Such an address could be one of ours. So a call goes to public addresses only, and to those that
//! the operator allows; that is decided about the address that is connected to, after the name was
//! looked up, and no redirect and no proxy leads elsewhere.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{HeaderName, HeaderValue};
use rustls::ClientConfig;
use shared::Network;

/// Longest URL.
const LONGEST_URL: usize = 2048;
/// How much of an answer is read, so that its connection can be used again.
const MOST_OF_AN_ANSWER: usize = 64 * 1024;
const LONGEST_CONNECT: Duration = Duration::from_secs(5);

/// What is wrong with the URL of an endpoint. The messages are for the administrator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// It is none.
    #[error("'url' must be an absolute URL of at most 2048 characters, without user or fragment")]
    Form,
    /// Its scheme is not allowed.
    #[error("'url' must begin with https://")]
    Scheme,
    /// It names an address that is not called.
    #[error("'url' names an address that is not public")]
    Address,
}

/// Why a call was not answered as it should be. Nothing of an answer's body, nor of the URL.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The URL is not one that may be called.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// All of the name's addresses are such as are not called.
    #[error("the address is not public")]
    Forbidden,
    /// Nobody could be reached.
    #[error("no connection")]
    Connect,
    /// There was no answer in time.
    #[error("no answer in time")]
    Slow,
    /// The connection broke.
    #[error("the connection broke")]
    Broken,
    /// There is nothing to send: the token could not be signed.
    #[error("the token could not be signed")]
    Unsigned,
    /// The answer is not 2xx.
    #[error("the answer was {0}")]
    Status(u16),
}

/// Calls endpoints.
#[derive(Clone)]
pub struct Egress {
    client: reqwest::Client,
    allow_http: bool,
    allowed: Arc<[Network]>,
}

/// The client could not be built.
#[derive(Debug, thiserror::Error)]
#[error("no HTTP client could be made for events")]
pub struct EgressError(#[from] reqwest::Error);

impl Egress {
    /// Calls with these TLS settings, within a time, and to these networks besides public
    /// addresses.
    ///
    /// # Errors
    /// [`EgressError`]
    pub fn new(
        tls: ClientConfig,
        timeout: Duration,
        allow_http: bool,
        allowed: &[Network],
    ) -> Result<Self, EgressError> {
        let allowed: Arc<[Network]> = allowed.into();
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .dns_resolver(Arc::new(Filtered(Arc::clone(&allowed))))
            .connect_timeout(LONGEST_CONNECT.min(timeout))
            .timeout(timeout)
            .pool_idle_timeout(Duration::from_secs(30))
            .user_agent("Meridian")
            .build()?;
        Ok(Self {
            client,
            allow_http,
            allowed,
        })
    }

    /// A URL that may be called, as far as it tells.
    ///
    /// # Errors
    /// [`UrlError`]
    pub fn check(&self, url: &str) -> Result<Url, UrlError> {
        if url.len() > LONGEST_URL {
            return Err(UrlError::Form);
        }
        let url = Url::parse(url).map_err(|_| UrlError::Form)?;
        match url.scheme() {
            "https" => {}
            "http" if self.allow_http => {}
            _ => return Err(UrlError::Scheme),
        }
        let has_user = !url.username().is_empty() || url.password().is_some();
        if has_user || url.fragment().is_some() {
            return Err(UrlError::Form);
        }
        // A literal address is looked up by nobody, so nobody else would look at it.
        let host = url.host_str().ok_or(UrlError::Form)?;
        let literal = host.trim_start_matches('[').trim_end_matches(']');
        if let Ok(address) = literal.parse::<IpAddr>()
            && !may_be_called(address, &self.allowed)
        {
            return Err(UrlError::Address);
        }
        Ok(url)
    }

    /// Sends a body; done when the answer is 2xx.
    ///
    /// # Errors
    /// [`SendError`]
    pub async fn post(
        &self,
        url: &str,
        headers: Vec<(HeaderName, HeaderValue)>,
        body: String,
    ) -> Result<(), SendError> {
        let url = self.check(url)?;
        let mut request = self.client.post(url).body(body);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let mut answer = request.send().await.map_err(|error| reason(&error))?;
        let mut read = 0;
        // What it says is nothing to us; a connection whose answer was read can be used again.
        while read <= MOST_OF_AN_ANSWER {
            match answer.chunk().await {
                Ok(Some(chunk)) => read += chunk.len(),
                Ok(None) | Err(_) => break,
            }
        }
        if answer.status().is_success() {
            Ok(())
        } else {
            Err(SendError::Status(answer.status().as_u16()))
        }
    }
}

fn reason(error: &reqwest::Error) -> SendError {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if error.is::<NotPublic>() {
            return SendError::Forbidden;
        }
        cause = error.source();
    }
    if error.is_timeout() {
        SendError::Slow
    } else if error.is_connect() {
        SendError::Connect
    } else {
        SendError::Broken
    }
}

/// Looks names up and leaves out the addresses that are not called.
struct Filtered(Arc<[Network]>);

/// None was left.
#[derive(Debug, thiserror::Error)]
#[error("the name has no address that may be called")]
struct NotPublic;

impl Resolve for Filtered {
    fn resolve(&self, name: Name) -> Resolving {
        let allowed = Arc::clone(&self.0);
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let good: Vec<SocketAddr> = found
                .filter(|address| may_be_called(address.ip(), &allowed))
                .collect();
            if good.is_empty() {
                return Err(NotPublic.into());
            }
            Ok(Box::new(good.into_iter()) as Addrs)
        })
    }
}

fn may_be_called(address: IpAddr, allowed: &[Network]) -> bool {
    is_public(address) || allowed.iter().any(|network| network.contains(address))
}

/// Whether an address is one of the public internet, as far as registries say (RFC 6890), and no
/// other form of one that is not.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = match (a, b, c) {
        // This network, private, loopback, link-local (and metadata services), multicast and
        // reserved.
        (0 | 10 | 127 | 224..=255, _, _) | (169, 254, _) | (172, 16..=31, _) | (192, 168, _) => {
            true
        }
        // Carrier-grade NAT, benchmarks, protocol assignments, documentation, 6to4 relays.
        (100, 64..=127, _) | (198, 18 | 19, _) | (192, 0, 0 | 2) | (192, 88, 99) => true,
        (198, 51, 100) | (203, 0, 113) => true,
        _ => false,
    };
    // The metadata service of Azure stands in the middle of public addresses.
    !special && address != Ipv4Addr::new(168, 63, 129, 16)
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    if let Some(inner) = address.to_ipv4_mapped() {
        return is_public_v4(inner);
    }
    let [a, b, ..] = address.segments();
    // Of all that is given out, 2000::/3, without Teredo and other special purposes, documentation,
    // and 6to4, which has an IPv4 address within.
    let is_given_out = a & 0xe000 == 0x2000;
    let is_special =
        (a == 0x2001 && (b < 0x0200 || b == 0x0db8)) || a == 0x2002 || (a == 0x3fff && b < 0x1000);
    is_given_out && !is_special
}

#[cfg(test)]
mod tests {
    use super::*;

    fn egress(allow_http: bool, allowed: &[&str]) -> Egress {
        let allowed: Vec<Network> = allowed
            .iter()
            .map(|it| Network::parse(it).unwrap())
            .collect();
        let tls = shared::tls::trusting_nobody().unwrap();
        Egress::new(tls, Duration::from_secs(1), allow_http, &allowed).unwrap()
    }

    #[test]
    fn only_public_addresses_are_called() {
        for public in [
            "1.1.1.1",
            "8.8.8.8",
            "100.63.255.255",
            "100.128.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "192.167.255.255",
            "198.17.0.1",
            "168.63.129.17",
            "2606:4700::1111",
            "2a00:1450::1",
            "::ffff:8.8.8.8",
        ] {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
        for other in [
            "0.0.0.0",
            "10.1.2.3",
            "127.0.0.1",
            "127.255.255.254",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "100.64.0.1",
            "100.127.255.255",
            "192.0.0.192",
            "192.0.2.1",
            "198.18.0.1",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "168.63.129.16",
            "::",
            "::1",
            "fe80::1",
            "fc00::1",
            "fd00:ec2::254",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "2001::1",
            "2001:db8::1",
            "::127.0.0.1",
            "fec0::1",
            "100::1",
        ] {
            assert!(!is_public(other.parse().unwrap()), "{other}");
        }
    }

    #[test]
    fn a_url_says_where_to_and_nothing_else() {
        let strict = egress(false, &[]);
        assert!(strict.check("https://example.com/hook?x=1").is_ok());
        for (url, error) in [
            ("http://example.com/", UrlError::Scheme),
            ("ftp://example.com/", UrlError::Scheme),
            ("file:///etc/passwd", UrlError::Scheme),
            ("example.com", UrlError::Form),
            ("https://user:secret@example.com/", UrlError::Form),
            ("https://example.com/#x", UrlError::Form),
            ("https://127.0.0.1/", UrlError::Address),
            ("https://2130706433/", UrlError::Address),
            ("https://0x7f.1/", UrlError::Address),
            ("https://[::1]:8443/", UrlError::Address),
            ("https://[::ffff:169.254.169.254]/", UrlError::Address),
            (
                "https://169.254.169.254/latest/meta-data",
                UrlError::Address,
            ),
        ] {
            assert_eq!(strict.check(url), Err(error), "{url}");
        }
        let open = egress(true, &["127.0.0.0/8"]);
        assert!(open.check("http://127.0.0.1:9/").is_ok());
        assert_eq!(open.check("http://10.0.0.1/"), Err(UrlError::Address));
    }

    #[tokio::test]
    async fn a_name_that_leads_home_is_not_called() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let url = format!("http://localhost:{port}/");
        let sent = egress(true, &[])
            .post(&url, Vec::new(), String::new())
            .await;
        assert!(matches!(sent, Err(SendError::Forbidden)), "{sent:?}");
        // Nobody knocked.
        let accepted = futures_util::FutureExt::now_or_never(listener.accept());
        assert!(accepted.is_none());
    }
}
