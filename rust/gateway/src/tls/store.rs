//! Certificates by the names that clients ask for.
//!
//! A handshake looks a name up without a lock; whoever changes something puts another table into the place of the one
//! before. An exact name wins over a wildcard, which stands for one label. Clients that ask for no name, or for one that
//! is unknown, get the first certificate that the configuration names: what they then make of it is theirs to decide,
//! since they know what they were looking for.

use super::CHALLENGE;
use arc_swap::ArcSwap;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// The certificates that are served.
#[derive(Default)]
pub struct CertStore {
    served: ArcSwap<Served>,
    challenges: ArcSwap<HashMap<String, Arc<CertifiedKey>>>,
}

/// One state of the store.
#[derive(Clone, Default)]
struct Served {
    /// All names in the order of the configuration.
    ranked: Vec<String>,
    by_name: ByName,
    /// For whoever asks for none of the names.
    default: Option<Arc<CertifiedKey>>,
}

#[derive(Clone, Default)]
struct ByName {
    exact: HashMap<String, Arc<CertifiedKey>>,
    /// By what follows `*.`.
    wildcard: HashMap<String, Arc<CertifiedKey>>,
}

impl ByName {
    /// The certificate for a name as configured.
    fn get(&self, domain: &str) -> Option<&Arc<CertifiedKey>> {
        match domain.strip_prefix("*.") {
            Some(parent) => self.wildcard.get(parent),
            None => self.exact.get(domain),
        }
    }

    fn put(&mut self, domain: &str, certified: Arc<CertifiedKey>) {
        match domain.strip_prefix("*.") {
            Some(parent) => self.wildcard.insert(parent.to_owned(), certified),
            None => self.exact.insert(domain.to_owned(), certified),
        };
    }

    /// The certificate for a name that a client asks for.
    fn find(&self, name: &str) -> Option<&Arc<CertifiedKey>> {
        let parent = || name.split_once('.').map(|(_, parent)| parent);
        self.exact.get(name).or_else(|| self.wildcard.get(parent()?))
    }
}

impl Served {
    fn rank(&mut self) {
        self.default = self.ranked.iter().find_map(|domain| self.by_name.get(domain)).cloned();
    }
}

impl CertStore {
    /// Serves `certified` for these names (in lower case, `*.example.com` for a wildcard) from the next handshake on.
    pub fn put(&self, domains: &[String], certified: &Arc<CertifiedKey>) {
        self.served.rcu(|now| {
            let mut next = Served::clone(now);
            for domain in domains {
                if !next.ranked.contains(domain) {
                    next.ranked.push(domain.clone());
                }
                next.by_name.put(domain, certified.clone());
            }
            next.rank();
            next
        });
    }

    /// Serves these names and no others. Where a certificate is still to come, the name keeps the one that it has.
    pub(crate) fn replace<'c>(
        &self,
        all: impl Iterator<Item = (&'c [String], Option<&'c Arc<CertifiedKey>>)> + Clone,
    ) {
        self.served.rcu(|now| {
            let mut next = Served::default();
            for (domains, certified) in all.clone() {
                for domain in domains {
                    if let Some(certified) = certified.or_else(|| now.by_name.get(domain)) {
                        next.by_name.put(domain, certified.clone());
                    }
                    next.ranked.push(domain.clone());
                }
            }
            next.rank();
            next
        });
    }

    /// Shows this certificate to an ACME server that looks whether `domain` is ours (TLS-ALPN-01), or none any more.
    pub fn set_challenge(&self, domain: &str, certified: Option<Arc<CertifiedKey>>) {
        self.challenges.rcu(|now| {
            let mut next = HashMap::clone(now);
            match &certified {
                Some(certified) => next.insert(domain.to_owned(), certified.clone()),
                None => next.remove(domain),
            };
            next
        });
    }

    /// The certificate that is in use for a name as configured.
    pub(crate) fn in_use(&self, domain: &str) -> Option<Arc<CertifiedKey>> {
        self.served.load().by_name.get(domain).cloned()
    }

    /// The certificate for a client that asks for `name`.
    fn find(&self, name: Option<&str>) -> Option<Arc<CertifiedKey>> {
        let served = self.served.load();
        let found = name.and_then(|name| served.by_name.find(name));
        found.or(served.default.as_ref()).cloned()
    }
}

impl fmt::Debug for CertStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.served.load().ranked).finish()
    }
}

impl ResolvesServerCert for CertStore {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.find(hello.server_name())
    }
}

/// The certificates of the challenges only.
#[derive(Debug)]
pub(super) struct Challenges(pub(super) Arc<CertStore>);

impl ResolvesServerCert for Challenges {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.challenges.load().get(hello.server_name()?).cloned()
    }
}

/// Whether it is an ACME server that asks: such a one offers this protocol alone.
pub(super) fn is_challenge(hello: &ClientHello<'_>) -> bool {
    hello.alpn().is_some_and(|mut offered| offered.next() == Some(CHALLENGE) && offered.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certified(names: &[&str]) -> Arc<CertifiedKey> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(names).expect("a certificate");
        let key = made.signing_key.serialize_der().try_into().expect("a key");
        let provider = rustls::crypto::ring::default_provider();
        Arc::new(CertifiedKey::from_der(vec![made.cert.into()], key, &provider).expect("a fitting key"))
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn an_exact_name_wins_over_a_wildcard_and_the_first_certificate_is_for_the_rest() {
        let store = CertStore::default();
        assert!(store.find(Some("a.test")).is_none() && store.find(None).is_none());
        let [first, wild, exact] = [&["a.test"], &["*.b.test"], &["x.b.test"]].map(|names| certified(names));
        let all = [names(&["a.test"]), names(&["*.b.test"]), names(&["x.b.test"])];
        let laid = || all.iter().map(Vec::as_slice).zip([Some(&first), Some(&wild), Some(&exact)]);
        store.replace(laid());
        for (name, wanted) in [
            (Some("a.test"), &first),
            (Some("x.b.test"), &exact),
            (Some("y.b.test"), &wild),
            (Some("z.y.b.test"), &first),
            (Some("b.test"), &first),
            (Some("elsewhere"), &first),
            (None, &first),
        ] {
            assert!(Arc::ptr_eq(&store.find(name).expect("a certificate"), wanted), "{name:?}");
        }
    }

    #[test]
    fn a_name_whose_certificate_is_still_to_come_keeps_the_one_it_has() {
        let store = CertStore::default();
        let [first, second] = [certified(&["a.test"]), certified(&["b.test"])];
        let (a, b) = (names(&["a.test"]), names(&["b.test"]));
        store.replace([(&a[..], None), (&b[..], Some(&second))].into_iter());
        assert!(Arc::ptr_eq(&store.find(None).expect("a certificate"), &second));
        store.put(&a, &first);
        assert!(
            Arc::ptr_eq(&store.find(None).expect("a certificate"), &first),
            "the order is the configuration's"
        );
        store.replace([(&b[..], None), (&a[..], None)].into_iter());
        assert!(Arc::ptr_eq(&store.find(Some("a.test")).expect("a certificate"), &first));
        assert!(Arc::ptr_eq(&store.find(None).expect("a certificate"), &second));
        store.replace([(&b[..], None)].into_iter());
        assert!(Arc::ptr_eq(&store.find(Some("a.test")).expect("a certificate"), &second));
    }
}
