//! Proxies in front of an edge: those that are trusted say by `X-Forwarded-For` where a
//! viewer is. What others say there is not believed, as anybody can send it.

use std::net::{IpAddr, SocketAddr};

use axum::http::HeaderMap;

const FORWARDED_FOR: &str = "x-forwarded-for";

/// The proxies that are trusted.
#[derive(Debug, Clone, Default)]
pub(crate) struct Proxies(Vec<Network>);

/// All addresses that begin with the same bits.
#[derive(Debug, Clone, Copy)]
struct Network {
    address: IpAddr,
    bits: u32,
}

const fn width(address: IpAddr) -> u32 {
    if address.is_ipv4() { 32 } else { 128 }
}

impl Network {
    fn read(text: &str) -> Option<Self> {
        let (address, bits) = text.split_once('/').map_or((text, None), |(a, bits)| (a, Some(bits)));
        let address: IpAddr = address.parse().ok()?;
        let bits = bits.map_or(Some(width(address)), |bits| bits.parse().ok())?;
        (bits <= width(address)).then_some(Self { address, bits })
    }

    fn holds(&self, address: IpAddr) -> bool {
        let number = |address: IpAddr| match address {
            IpAddr::V4(address) => u128::from(u32::from(address)),
            IpAddr::V6(address) => address.into(),
        };
        let differ = number(self.address) ^ number(address);
        let behind = width(self.address) - self.bits;
        width(self.address) == width(address) && differ.checked_shr(behind).unwrap_or(0) == 0
    }
}

impl Proxies {
    /// # Errors
    /// The first one that is neither an address nor a network.
    pub(crate) fn read(texts: &[String]) -> Result<Self, &str> {
        let networks = texts.iter().map(|text| Network::read(text).ok_or(text.as_str()));
        networks.collect::<Result<_, _>>().map(Self)
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.holds(address))
    }

    /// Where who asks is: the last of those that a request has come by which is no
    /// trusted proxy.
    pub(crate) fn viewer(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let told = headers.get_all(FORWARDED_FOR).iter().rev();
        let told = told.flat_map(|value| value.to_str().unwrap_or_default().rsplit(','));
        let mut viewer = peer.to_canonical();
        for text in told.map(str::trim) {
            let address = text.parse::<IpAddr>();
            let address = address.or_else(|_| text.parse().map(|with_port: SocketAddr| with_port.ip()));
            match address {
                Ok(address) if self.trusts(viewer) => viewer = address.to_canonical(),
                _ => break,
            }
        }
        viewer
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn only_proxies_that_are_trusted_say_where_a_viewer_is() {
        let trusted = ["10.0.0.0/8", "192.0.2.7", "2001:db8::/32"].map(str::to_owned);
        let proxies = Proxies::read(&trusted).unwrap();
        let viewer = |peer: &str, told: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in told {
                headers.append(FORWARDED_FOR, HeaderValue::from_static(value));
            }
            proxies.viewer(peer.parse().unwrap(), &headers).to_string()
        };
        for (peer, told, expected) in [
            ("10.1.2.3", &["203.0.113.5"][..], "203.0.113.5"),
            ("::ffff:10.1.2.3", &["203.0.113.5"], "203.0.113.5"),
            ("192.0.2.7", &["203.0.113.5:4711"], "203.0.113.5"),
            ("2001:db8::1", &["2001:db9::1"], "2001:db9::1"),
            // What stands before the viewer is what he says.
            ("10.1.2.3", &["198.51.100.1, 203.0.113.5, 10.9.9.9"], "203.0.113.5"),
            ("10.1.2.3", &["198.51.100.1", "203.0.113.5", "10.9.9.9"], "203.0.113.5"),
            ("10.1.2.3", &["203.0.113.5, unknown"], "10.1.2.3"),
            ("10.1.2.3", &["203.0.113.5, unknown, 10.9.9.9"], "10.9.9.9"),
            ("10.1.2.3", &[], "10.1.2.3"),
            ("11.1.2.3", &["203.0.113.5"], "11.1.2.3"),
            ("192.0.2.8", &["203.0.113.5"], "192.0.2.8"),
            ("2001:db9::1", &["203.0.113.5"], "2001:db9::1"),
        ] {
            assert_eq!(viewer(peer, told), expected, "{peer} {told:?}");
        }
        assert_eq!(
            Proxies::default().viewer([10, 1, 2, 3].into(), &HeaderMap::new()),
            IpAddr::from([10, 1, 2, 3])
        );
    }

    #[test]
    fn what_is_no_network_is_named() {
        for wrong in [
            "",
            "front",
            "10.0.0.0/33",
            "10.0.0.0/",
            "10.0.0/8",
            "::1/129",
            "10.0.0.0/-1",
        ] {
            let texts = ["0.0.0.0/0".to_owned(), wrong.to_owned()];
            assert_eq!(Proxies::read(&texts).unwrap_err(), wrong);
        }
    }
}
