//! An OIDC issuer on loopback: discovery, JWKS, and signed tokens for whoever asks.
//!
//! It stands in for a workspace platform in the demonstration and in tests, so its claims are shaped like those of
//! Gitpod. It authenticates nobody, and therefore listens on 127.0.0.1 only; its keys live in memory and die with it.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use http::Response;
use jsonwebtoken::{
    Algorithm, EncodingKey, Header,
    jwk::{Jwk, JwkSet, PublicKeyUse},
};
use serde_json::{Map, Value, json};
use tokio::sync::watch;

use super::serve::{Body, Server, answer, lock};

/// Who the tokens speak for, and how long they live.
#[derive(Clone, Debug)]
pub struct Config {
    /// From `iat` to `exp`; whole seconds, as JWT counts them.
    pub lifetime: Duration,
    /// `sub`: in Gitpod's tokens this is the workspace's context, not the person.
    pub subject: String,
    /// The stable id of the person.
    pub user_id: String,
    /// `name`: shown, and stamped as the full name.
    pub name: String,
    /// `email`; stamped only if `email_verified`.
    pub email: String,
    /// Whether the issuer vouches for `email`.
    pub email_verified: bool,
    /// Further claims, which replace those above of the same name.
    pub claims: Map<String, Value>,
}

/// A running issuer. Dropping it stops it.
#[derive(Debug)]
pub struct Issuer {
    server: Server,
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    minted: watch::Sender<u64>,
}

struct State {
    url: String,
    config: Config,
    key: Key,
    down: bool,
    refuse_minting: bool,
    refused: u64,
}

struct Key {
    id: String,
    signing: EncodingKey,
    public: Jwk,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            lifetime: Duration::from_secs(3600),
            subject: "https://example.com/acme/app/tree/main".to_owned(),
            user_id: "5f3c9a1e-7d42-4b0a-9a55-0c1d2e3f4a5b".to_owned(),
            name: "Ada Example".to_owned(),
            email: "ada@example.com".to_owned(),
            email_verified: true,
            claims: Map::new(),
        }
    }
}

impl Issuer {
    /// Starts an issuer with a fresh key on a free loopback port.
    pub async fn start(config: Config) -> io::Result<Issuer> {
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                url: String::new(),
                config,
                key: Key::generate()?,
                down: false,
                refuse_minting: false,
                refused: 0,
            }),
            minted: watch::channel(0).0,
        });
        let handler = shared.clone();
        let server = Server::start(move |request| {
            let response = handler.respond(request.uri());
            Box::pin(async move { Some(response) })
        })
        .await?;
        shared.state().url = format!("http://{}", server.address());
        Ok(Issuer { server, shared })
    }

    /// The issuer's identifier (`iss`), which is also where discovery is found.
    pub fn url(&self) -> String {
        self.shared.state().url.clone()
    }

    /// The URL that answers with a fresh token for `audience`, as plain text.
    pub fn token_url(&self, audience: &str) -> String {
        token_url(&self.url(), audience).to_string()
    }

    /// A fresh token for `audience`. It counts as minted.
    pub fn mint(&self, audience: &str) -> String {
        let lifetime = self.shared.state().config.lifetime;
        self.mint_with(audience, lifetime)
    }

    /// The same with a lifetime of its own.
    pub fn mint_with(&self, audience: &str, lifetime: Duration) -> String {
        self.shared.mint(audience, lifetime)
    }

    /// How many tokens were minted so far.
    pub fn minted(&self) -> u64 {
        *self.shared.minted.borrow()
    }

    /// How often `/token` answered that nothing is minted now.
    pub fn refused(&self) -> u64 {
        self.shared.state().refused
    }

    /// Returns when at least `count` tokens were minted.
    pub async fn wait_minted(&self, count: u64) {
        let mut minted = self.shared.minted.subscribe();
        // The sender lives as long as `self`.
        let _ = minted.wait_for(|minted| *minted >= count).await;
    }

    /// The lifetime of tokens from now on.
    pub fn set_lifetime(&self, lifetime: Duration) {
        self.shared.state().config.lifetime = lifetime;
    }

    /// Changes who tokens speak for from now on.
    pub fn edit(&self, edit: impl FnOnce(&mut Config)) {
        edit(&mut self.shared.state().config);
    }

    /// While down, every request is answered with 503.
    pub fn set_down(&self, down: bool) {
        self.shared.state().down = down;
    }

    /// While set, only `/token` answers 503; discovery and keys still work, so that verifiers are not affected.
    pub fn set_refuse_minting(&self, refuse: bool) {
        self.shared.state().refuse_minting = refuse;
    }

    /// Revokes every token that was ever minted: a new key replaces the old one in the JWKS.
    pub fn revoke_all(&self) -> io::Result<()> {
        let key = Key::generate()?;
        self.shared.state().key = key;
        Ok(())
    }

    /// Stops listening and cuts every connection.
    pub fn kill(&self) {
        self.server.kill();
    }

    /// Listens again, on the same port.
    pub async fn recover(&self) -> io::Result<()> {
        self.server.recover().await
    }
}

/// Where the issuer at `issuer` mints for `audience`.
pub(super) fn token_url(issuer: &str, audience: &str) -> String {
    let query: String = url::form_urlencoded::byte_serialize(audience.as_bytes()).collect();
    format!("{}/token?audience={query}", issuer.trim_end_matches('/'))
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    fn respond(&self, uri: &http::Uri) -> Response<Body> {
        let (down, refuse, url) = {
            let state = self.state();
            (state.down, state.refuse_minting, state.url.clone())
        };
        if down {
            return answer(503, "text/plain", "the issuer is down\n");
        }
        match uri.path() {
            "/.well-known/openid-configuration" => json_answer(&json!({
                "issuer": url,
                "jwks_uri": format!("{url}/keys"),
                "token_endpoint": format!("{url}/token"),
                "response_types_supported": ["id_token"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["ES256"],
            })),
            "/keys" => {
                let keys = vec![self.state().key.public.clone()];
                json_answer(&serde_json::to_value(JwkSet { keys }).unwrap_or_default())
            }
            "/token" if refuse => {
                self.state().refused += 1;
                answer(503, "text/plain", "the issuer mints nothing now\n")
            }
            "/token" => {
                let audience = url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes())
                    .find_map(|(key, value)| (key == "audience").then(|| value.into_owned()));
                match audience {
                    Some(audience) => {
                        let lifetime = self.state().config.lifetime;
                        answer(200, "text/plain", self.mint(&audience, lifetime))
                    }
                    None => answer(400, "text/plain", "audience is missing\n"),
                }
            }
            _ => answer(404, "text/plain", "there is nothing here\n"),
        }
    }

    fn mint(&self, audience: &str, lifetime: Duration) -> String {
        let (header, claims, signing) = {
            let state = self.state();
            let mut header = Header::new(Algorithm::ES256);
            header.kid = Some(state.key.id.clone());
            (header, state.claims(audience, lifetime), state.key.signing.clone())
        };
        let token = jsonwebtoken::encode(&header, &claims, &signing).expect("a P-256 key that was just made signs");
        self.minted.send_modify(|count| *count += 1);
        token
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Shared")
    }
}

impl State {
    fn claims(&self, audience: &str, lifetime: Duration) -> Value {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs();
        let config = &self.config;
        let mut claims = json!({
            "iss": self.url,
            "aud": [audience],
            "azp": audience,
            "sub": config.subject,
            "iat": now,
            "exp": now + lifetime.as_secs(),
            // Two tokens of one second are still two tokens.
            "jti": token_id(),
            "name": config.name,
            "email": config.email,
            "email_verified": config.email_verified,
            "user_id": config.user_id,
        });
        if let Value::Object(claims) = &mut claims {
            claims.extend(config.claims.clone());
        }
        claims
    }
}

impl Key {
    fn generate() -> io::Result<Key> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map_err(io::Error::other)?;
        let document = pair.to_pkcs8v1().map_err(io::Error::other)?;
        let signing = EncodingKey::from_ec_der(document.as_ref());
        let mut public = Jwk::from_encoding_key(&signing, Algorithm::ES256).map_err(io::Error::other)?;
        let id = token_id();
        public.common.key_id = Some(id.clone());
        public.common.public_key_use = Some(PublicKeyUse::Signature);
        Ok(Key { id, signing, public })
    }
}

fn json_answer(value: &Value) -> Response<Body> {
    answer(200, "application/json", value.to_string())
}

/// 16 random hex digits.
fn token_id() -> String {
    let mut bytes = [0; 8];
    // Without randomness no key could have been made either.
    getrandom::fill(&mut bytes).expect("the system has a source of randomness");
    format!("{:016x}", u64::from_be_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn discovery_leads_to_the_key_that_signed_a_token() {
        let issuer = Issuer::start(Config::default()).await.unwrap();
        let client = crate::demo::client().unwrap();
        let discovery: Value = fetch(&client, &format!("{}/.well-known/openid-configuration", issuer.url())).await;
        assert_eq!(discovery["issuer"], issuer.url());
        let keys: JwkSet =
            serde_json::from_value(fetch(&client, discovery["jwks_uri"].as_str().unwrap()).await).unwrap();
        let token = crate::demo::token(&issuer.url(), "https://otel.example.com")
            .await
            .unwrap();
        let kid = jsonwebtoken::decode_header(&token).unwrap().kid.unwrap();
        assert!(keys.find(&kid).is_some());
        assert_eq!(issuer.minted(), 1);
    }

    #[tokio::test]
    async fn an_issuer_that_is_down_mints_nothing_and_says_so() {
        let issuer = Issuer::start(Config::default()).await.unwrap();
        issuer.set_down(true);
        assert!(
            crate::demo::token(&issuer.url(), "a")
                .await
                .unwrap_err()
                .to_string()
                .contains("503")
        );
        issuer.kill();
        assert!(crate::demo::token(&issuer.url(), "a").await.is_err());
        issuer.recover().await.unwrap();
        issuer.set_down(false);
        crate::demo::token(&issuer.url(), "a").await.unwrap();
    }

    async fn fetch(client: &reqwest::Client, url: &str) -> Value {
        let bytes = client.get(url).send().await.unwrap().bytes().await.unwrap();
        serde_json::from_slice(&bytes).unwrap()
    }
}
