//! From a connection and `X-Forwarded-For` to the address that a request comes from.
//!
//! Anybody can write that header. It counts only where the peer is a proxy that the operator
//! trusts, and then only what such proxies wrote (failure class 51). `Forwarded` is not read: no
//! proxy of a cloud writes it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use actix_web::http::header::HeaderMap;
use shared::Network;

/// Where proxies say whom they speak for.
const FORWARDED_FOR: &str = "x-forwarded-for";

/// The address that a request comes from: the peer's, or, behind trusted proxies, the nearest one
/// that is not such a proxy's. Each proxy adds its own peer at the right end. Where an entry is no
/// address, whoever wrote it is all that is known.
#[must_use]
pub fn source(peer: Option<IpAddr>, headers: &HeaderMap, trusted: &[Network]) -> IpAddr {
    let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(address));
    let peer = peer.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let mut nearest = peer.to_canonical();
    if !is_trusted(nearest) {
        return nearest;
    }
    let lines: Vec<_> = headers.get_all(FORWARDED_FOR).collect();
    let entries = lines.iter().rev().flat_map(|line| {
        // A line that is no text is one entry that is no address.
        line.to_str().unwrap_or_default().rsplit(',')
    });
    for entry in entries {
        match address(entry.trim()) {
            Some(address) => nearest = address,
            None => break,
        }
        if !is_trusted(nearest) {
            break;
        }
    }
    nearest
}

/// An address, with or without a port: some proxies write `203.0.113.7:50000`.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'))
        .unwrap_or(text);
    let address = match bare.parse::<IpAddr>() {
        Ok(address) => Some(address),
        Err(_) => text.parse::<SocketAddr>().ok().map(|socket| socket.ip()),
    };
    address.map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::{HeaderName, HeaderValue};
    use proptest::prelude::*;

    use super::*;

    fn headers(lines: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(
                HeaderName::from_static(FORWARDED_FOR),
                HeaderValue::from_str(line).unwrap(),
            );
        }
        headers
    }

    fn of(peer: &str, lines: &[&str], trusted: &[&str]) -> String {
        let trusted: Vec<Network> = trusted.iter().map(|text| text.parse().unwrap()).collect();
        source(peer.parse().ok(), &headers(lines), &trusted).to_string()
    }

    #[test]
    fn the_nearest_address_that_is_no_trusted_proxys_counts() {
        let trusted = ["10.0.0.0/8", "2001:db8:1::/48"];
        for (peer, lines, expected) in [
            // Nobody but a trusted proxy is believed.
            ("203.0.113.7", vec![], "203.0.113.7"),
            ("203.0.113.7", vec!["198.51.100.1"], "203.0.113.7"),
            ("::ffff:203.0.113.7", vec!["198.51.100.1"], "203.0.113.7"),
            // One, two, and two that write a line each.
            ("10.0.0.1", vec!["198.51.100.1"], "198.51.100.1"),
            ("::ffff:10.0.0.1", vec!["198.51.100.1"], "198.51.100.1"),
            ("10.0.0.1", vec!["198.51.100.1, 10.0.0.2"], "198.51.100.1"),
            ("10.0.0.1", vec!["198.51.100.1", "10.0.0.2"], "198.51.100.1"),
            ("2001:db8:1::9", vec!["2001:db8:2::1"], "2001:db8:2::1"),
            // What the client wrote itself stands further left.
            ("10.0.0.1", vec!["10.9.9.9, 198.51.100.1"], "198.51.100.1"),
            (
                "10.0.0.1",
                vec!["192.0.2.1, 198.51.100.1, 10.0.0.2"],
                "198.51.100.1",
            ),
            (
                "10.0.0.1",
                vec!["192.0.2.1", "198.51.100.1"],
                "198.51.100.1",
            ),
            // No entry, or one that is none: the proxy that wrote it is all that is known.
            ("10.0.0.1", vec![], "10.0.0.1"),
            ("10.0.0.1", vec![""], "10.0.0.1"),
            ("10.0.0.1", vec!["unknown"], "10.0.0.1"),
            ("10.0.0.1", vec!["198.51.100.1, unknown"], "10.0.0.1"),
            ("10.0.0.1", vec!["198.51.100.1, x, 10.0.0.2"], "10.0.0.2"),
            ("10.0.0.1", vec!["198.51.100.1,"], "10.0.0.1"),
            // Proxies only.
            ("10.0.0.1", vec!["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
            // With ports and brackets.
            ("10.0.0.1", vec!["198.51.100.1:4711"], "198.51.100.1"),
            ("10.0.0.1", vec!["[2001:db8::1]:4711"], "2001:db8::1"),
            ("10.0.0.1", vec!["[2001:db8::1]"], "2001:db8::1"),
            ("10.0.0.1", vec!["::ffff:198.51.100.1"], "198.51.100.1"),
        ] {
            assert_eq!(of(peer, &lines, &trusted), expected, "{peer} {lines:?}");
        }
        assert_eq!(of("10.0.0.1", &["198.51.100.1"], &[]), "10.0.0.1");
    }

    proptest! {
        #[test]
        fn nobody_speaks_for_another_without_trust(line in "[ -~]{0,80}") {
            prop_assert_eq!(of("203.0.113.7", &[&line], &["10.0.0.0/8"]), "203.0.113.7");
        }
    }
}
