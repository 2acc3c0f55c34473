//! The payload of `JwtAuth`, as written.

use crate::{
    kinds::{Count, EnvText, Flag, Millis, Named, OneOrMany, Text},
    read::{choice, section},
    source::Spanned,
};

section! {
    /// Who comes with a JSON Web Token.
    JwtAuth "the payload of `JwtAuth`", {
        /// The public keys of whoever signs the tokens.
        optional jwks("jwks"): Jwks;
        /// A PEM file with one public key, or a certificate with it, instead.
        optional public_key("public_key"): EnvText;
        /// The secret of HMAC signatures instead.
        optional secret("secret"): EnvText;
        /// How tokens may be signed. By default HS256 with a `secret`, and else RS256, ES256 and EdDSA.
        optional algorithms("algorithms"): OneOrMany<Spanned<TokenAlgorithm>>;
        /// Whose tokens are taken: the claim `iss` must be one of these.
        optional issuer("issuer"): OneOrMany<Text>;
        /// Whom the tokens must be for: the claim `aud` must have one of these.
        optional audience("audience"): OneOrMany<Text>;
        /// Seconds by which clocks may differ.
        optional leeway_seconds("leeway_seconds"): Count<0, 3_600> = 30;
        /// Whether a token must say when it ends (`exp`). True by default.
        optional require_expiry("require_expiry"): Flag;
        /// Further claims that a token must have.
        optional require("require"): OneOrMany<Text>;
        /// The words that must all be in the claim `scope` (or `scp`); otherwise 403.
        optional scopes("scopes"): OneOrMany<Text>;
        /// Claims and the values of which each must have one; otherwise 403.
        optional claims("claims"): Named<OneOrMany<Text>>;
        /// The request header with the token. `Authorization`, with the scheme `Bearer`, by default.
        optional header("header"): Text = "authorization";
        /// A cookie with the token, where the header is not there.
        optional cookie("cookie"): Text;
        /// A parameter of the query with the token, where neither is there.
        optional query("query"): Text;
        /// Request headers that tell the service of claims: the header's name and the claim's.
        optional headers("headers"): Named<Text>;
        /// Whether the service gets the token too. True by default.
        optional forward_token("forward_token"): Flag;
        /// What the client is told that it needs a token for.
        optional realm("realm"): Text = "restricted";
    }
}

choice! {
    /// How a token may be signed.
    TokenAlgorithm "algorithm of a token" {
        now "HS256" => HS256,
        now "HS384" => HS384,
        now "HS512" => HS512,
        now "RS256" => RS256,
        now "RS384" => RS384,
        now "RS512" => RS512,
        now "PS256" => PS256,
        now "PS384" => PS384,
        now "PS512" => PS512,
        now "ES256" => ES256,
        now "ES384" => ES384,
        now "EdDSA" => EdDSA,
    }
}

section! {
    /// A JSON Web Key Set.
    Jwks "`jwks`", {
        /// Where it is fetched: `https://...`.
        optional url("url"): EnvText;
        /// A file that holds it, instead. It is read again when it changes.
        optional file("file"): EnvText;
        /// A PEM file of the authorities to trust for `url`, instead of the system's.
        optional ca_file("ca_file"): EnvText;
        /// The longest time in seconds before it is fetched again; the answer's `max-age` may say sooner.
        optional refresh_seconds("refresh_seconds"): Count<1, 86_400> = 600;
        /// The shortest time in seconds between two fetches, whatever tokens come.
        optional min_refresh_seconds("min_refresh_seconds"): Count<1, 3_600> = 30;
        /// Milliseconds that a fetch may take.
        optional timeout_ms("timeout_ms"): Millis = 5_000;
    }
}
