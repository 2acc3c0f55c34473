//! Certificates as they are written: from files, or from an authority.

use crate::{
    kinds::{EnvText, Flag, OneOrMany, Text},
    read::{choice, section},
    source::Spanned,
};

section! {
    /// A certificate for some domains.
    Certificate "a certificate", {
        /// Where it comes from. `custom` where `cert` or `key` is written, `acme` otherwise.
        optional kind("type"): Spanned<CertificateType>;
        /// The domains: names such as `a.example.com`, or `*.example.com` for all names one label longer.
        required domains("domains"): Vec<Text>;
        /// The PEM file with the certificate, and perhaps its chain behind it.
        optional cert("cert"): Text;
        /// The PEM file with the certificate's private key.
        optional key("key"): Text;
        /// PEM files with the certificates of the authorities between it and the root, where `cert` lacks them.
        optional chain("chain"): OneOrMany<Text>;
        /// Who issues it.
        optional provider("provider"): Spanned<Provider>;
        /// How it is obtained. Each key of this section may also stand beside it.
        optional acme("acme"): Acme;
        /// The address that the authority may write to.
        optional email("email"): EnvText;
        /// Whether the provider's service for tests is used, whose certificates no browser trusts.
        optional staging("staging"): Flag;
        /// The URL of the authority's ACME directory, in place of the provider's.
        optional directory_url("directory_url"): EnvText;
        /// A PEM file with the authorities that the directory's own certificate is checked against. The system's by default.
        optional directory_ca_file("directory_ca_file"): EnvText;
        /// How the control over the domains is shown. By default: `http-01` where an `http` address has port 80, else `tls-alpn-01` where an `https` address has port 443, else whichever listener there is.
        optional challenge("challenge"): Spanned<Challenge>;
        /// The id of an account that you have with the authority already (external account binding).
        optional eab_kid("eab_kid"): EnvText;
        /// The key of that account, in base64url as the authority gave it.
        optional eab_hmac_key("eab_hmac_key"): EnvText;
    }
}

choice! {
    /// Where a certificate comes from.
    CertificateType "type of a certificate" {
        now "custom" => Custom,
        now "acme" => Acme,
    }
}

choice! {
    /// Who issues a certificate.
    Provider "provider" {
        now "letsencrypt" => LetsEncrypt,
        now "zerossl" => ZeroSsl,
        now "google" => Google,
    }
}

choice! {
    /// How the control over a domain is shown.
    Challenge "challenge" {
        now "http-01" => Http01,
        now "tls-alpn-01" => TlsAlpn01,
    }
}

section! {
    /// How a certificate is obtained.
    Acme "`acme`", {
        /// The address that the authority may write to.
        optional email("email"): EnvText;
        /// Whether the provider's service for tests is used, whose certificates no browser trusts.
        optional staging("staging"): Flag;
        /// The URL of the authority's ACME directory, in place of the provider's.
        optional directory_url("directory_url"): EnvText;
        /// A PEM file with the authorities that the directory's own certificate is checked against. The system's by default.
        optional directory_ca_file("directory_ca_file"): EnvText;
        /// How the control over the domains is shown. By default: `http-01` where an `http` address has port 80, else `tls-alpn-01` where an `https` address has port 443, else whichever listener there is.
        optional challenge("challenge"): Spanned<Challenge>;
        /// The id of an account that you have with the authority already (external account binding).
        optional eab_kid("eab_kid"): EnvText;
        /// The key of that account, in base64url as the authority gave it.
        optional eab_hmac_key("eab_hmac_key"): EnvText;
    }
}
