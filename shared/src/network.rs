//! [`Network`]: a range of addresses, `203.0.113.0/24` (RFC 4632, RFC 4291 section 2.3), and
//! [`Networks`], the list that says from where an API token may be used.
//!
//! An IPv4 address that came in as IPv6 (`::ffff:203.0.113.7`) is the IPv4 address: whoever listens
//! on both sees the one or the other by chance.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Networks that one token may have.
pub const MOST_NETWORKS: usize = 50;

/// Addresses that begin with the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Network {
    /// The first of them, in canonical form.
    first: IpAddr,
    /// How many bits are the same in all of them.
    prefix: u8,
}

/// Why a text is no network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// It is none at all.
    #[error("a network is an address and a prefix: 203.0.113.0/24 or 2001:db8::/32")]
    Shape,
    /// The prefix is longer than the address.
    #[error("the prefix of a network is at most 32 for IPv4 and 128 for IPv6")]
    Prefix,
    /// Bits behind the prefix are set, so that it is unclear what was meant.
    #[error("the address has bits behind its prefix; the network that it is in is {0}")]
    HostBits(Network),
}

impl Network {
    /// Parses a network, or one address alone.
    ///
    /// # Errors
    /// [`NetworkError`] with a sentence for whoever wrote the text.
    pub fn parse(text: &str) -> Result<Self, NetworkError> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| NetworkError::Shape)?;
        let bits = width(address);
        let prefix = match prefix {
            None => bits,
            Some(digits) if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) => {
                return Err(NetworkError::Shape);
            }
            Some(digits) => digits.parse().map_err(|_| NetworkError::Prefix)?,
        };
        if prefix > bits {
            return Err(NetworkError::Prefix);
        }
        // A network within ::ffff:0:0/96 is one of IPv4.
        let mapped = width(address) - width(address.to_canonical());
        let (address, prefix) = match prefix.checked_sub(mapped) {
            Some(prefix) => (address.to_canonical(), prefix),
            None => (address, prefix),
        };
        let first = first_of(address, prefix);
        let network = Self { first, prefix };
        match first == address {
            true => Ok(network),
            false => Err(NetworkError::HostBits(network)),
        }
    }

    /// Whether an address is one of them.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.first.is_ipv4() && first_of(address, self.prefix) == self.first
    }

    /// How many bits all of them share; 0 is every address of the family.
    #[must_use]
    pub fn prefix(&self) -> u8 {
        self.prefix
    }
}

/// How many bits an address has.
fn width(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

/// The address without the bits behind a prefix.
fn first_of(address: IpAddr, prefix: u8) -> IpAddr {
    let behind = u32::from(width(address).saturating_sub(prefix));
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(behind).unwrap_or(0);
            Ipv4Addr::from_bits(v4.to_bits() & mask).into()
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(behind).unwrap_or(0);
            Ipv6Addr::from_bits(v6.to_bits() & mask).into()
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.prefix)
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl TryFrom<String> for Network {
    type Error = NetworkError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text)
    }
}

impl From<Network> for String {
    fn from(network: Network) -> Self {
        network.to_string()
    }
}

/// From where something may be used: from these networks, or, when there is none, from anywhere.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Network>", into = "Vec<Network>")]
pub struct Networks(Vec<Network>);

/// There are more networks than one token may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a token has at most {MOST_NETWORKS} networks")]
pub struct NetworksError;

impl Networks {
    /// A list of networks.
    ///
    /// # Errors
    /// [`NetworksError`] when there are more than [`MOST_NETWORKS`].
    pub fn new(networks: Vec<Network>) -> Result<Self, NetworksError> {
        match networks.len() {
            0..=MOST_NETWORKS => Ok(Self(networks)),
            _ => Err(NetworksError),
        }
    }

    /// Whether an address may use what has this list.
    #[must_use]
    pub fn allow(&self, address: IpAddr) -> bool {
        self.0.is_empty() || self.0.iter().any(|network| network.contains(address))
    }

    /// The networks; none is anywhere.
    #[must_use]
    pub fn as_slice(&self) -> &[Network] {
        &self.0
    }

    /// Whether every address is allowed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl TryFrom<Vec<Network>> for Networks {
    type Error = NetworksError;

    fn try_from(networks: Vec<Network>) -> Result<Self, Self::Error> {
        Self::new(networks)
    }
}

impl From<Networks> for Vec<Network> {
    fn from(networks: Networks) -> Self {
        networks.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn network(text: &str) -> Network {
        Network::parse(text).unwrap()
    }

    #[test]
    fn networks_have_one_spelling() {
        for (text, shown) in [
            ("203.0.113.0/24", "203.0.113.0/24"),
            ("203.0.113.7", "203.0.113.7/32"),
            ("203.0.113.7/32", "203.0.113.7/32"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("2001:db8::/32", "2001:db8::/32"),
            ("2001:0DB8:0::/32", "2001:db8::/32"),
            ("::1", "::1/128"),
            ("::/0", "::/0"),
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
            ("::ffff:10.1.2.3", "10.1.2.3/32"),
            ("::ffff:0:0/96", "0.0.0.0/0"),
            ("::/90", "::/90"),
        ] {
            assert_eq!(network(text).to_string(), shown, "{text}");
            assert_eq!(network(shown), network(text));
        }
    }

    #[test]
    fn what_is_no_network_says_why() {
        for text in [
            "",
            "/",
            "/8",
            "10.0.0.0/",
            "10.0.0.0/+8",
            "10.0.0.0/8/8",
            "10.0.0/8",
            "10.0.0.0 /8",
            "example.com/8",
            "010.0.0.0/8",
            "fe80::1%eth0/64",
        ] {
            assert_eq!(Network::parse(text), Err(NetworkError::Shape), "{text:?}");
        }
        for text in ["10.0.0.0/33", "2001:db8::/129", "10.0.0.0/999"] {
            assert_eq!(Network::parse(text), Err(NetworkError::Prefix), "{text}");
        }
        for (text, meant) in [
            ("203.0.113.5/24", "203.0.113.0/24"),
            ("10.0.0.1/0", "0.0.0.0/0"),
            ("2001:db8::1/32", "2001:db8::/32"),
            ("::ffff:10.0.0.1/104", "10.0.0.0/8"),
            ("::ffff:10.0.0.0/90", "::ffc0:0:0/90"),
        ] {
            let error = Network::parse(text).unwrap_err();
            assert_eq!(error, NetworkError::HostBits(network(meant)), "{text}");
            assert!(error.to_string().contains(meant));
        }
    }

    #[test]
    fn a_network_contains_its_addresses_in_either_form() {
        let v4 = network("203.0.113.0/24");
        for (address, inside) in [
            ("203.0.113.0", true),
            ("203.0.113.255", true),
            ("::ffff:203.0.113.9", true),
            ("203.0.112.255", false),
            ("203.0.114.0", false),
            ("::203.0.113.9", false),
            ("2001:db8::1", false),
        ] {
            assert_eq!(v4.contains(address.parse().unwrap()), inside, "{address}");
        }
        let v6 = network("2001:db8::/33");
        assert!(v6.contains("2001:db8:7fff::1".parse().unwrap()));
        assert!(!v6.contains("2001:db8:8000::1".parse().unwrap()));
        // All of IPv6 is nothing of IPv4, in whichever form that comes.
        let all = network("::/0");
        assert!(all.contains("2001:db8::1".parse().unwrap()));
        assert!(!all.contains("::ffff:10.0.0.1".parse().unwrap()));
    }

    #[test]
    fn a_list_has_an_end_and_none_is_anywhere() {
        let address = "203.0.113.7".parse().unwrap();
        assert!(Networks::default().allow(address));
        let elsewhere = network("198.51.100.0/24");
        let two = Networks::new(vec![elsewhere, network("203.0.113.0/24")]).unwrap();
        assert!(two.allow(address));
        assert!(!Networks::new(vec![elsewhere]).unwrap().allow(address));
        assert!(Networks::new(vec![elsewhere; MOST_NETWORKS]).is_ok());
        assert!(Networks::new(vec![elsewhere; MOST_NETWORKS + 1]).is_err());

        let text = serde_json::to_string(&two).unwrap();
        assert_eq!(text, r#"["198.51.100.0/24","203.0.113.0/24"]"#);
        assert_eq!(serde_json::from_str::<Networks>(&text).unwrap(), two);
        let error = serde_json::from_str::<Networks>(r#"["10.0.0.1/8"]"#).unwrap_err();
        assert!(error.to_string().contains("10.0.0.0/8"), "{error}");
    }

    proptest! {
        #[test]
        fn an_address_is_in_the_network_of_its_first_bits(bits: u128, prefix in 0_u8..=128) {
            let address = IpAddr::V6(Ipv6Addr::from_bits(bits));
            prop_assume!(address.to_canonical() == address);
            let network = Network { first: first_of(address, prefix), prefix };
            prop_assert!(network.contains(address));
            prop_assert_eq!(Network::parse(&network.to_string()), Ok(network));
            let other = IpAddr::V6(Ipv6Addr::from_bits(bits ^ (1 << 127)));
            prop_assert_eq!(network.contains(other), prefix == 0);
        }

        #[test]
        fn what_parses_is_spelled_one_way(text in "[0-9a-f:.]{1,20}(/[0-9]{1,3})?|.{0,40}") {
            if let Ok(network) = Network::parse(&text) {
                prop_assert_eq!(Network::parse(&network.to_string()), Ok(network));
            }
        }
    }
}
