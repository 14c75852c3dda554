//! An identity provider for people: device grant (RFC 8628), code with PKCE (RFC 6749 section 4.1, RFC 7636), rotating
//! refresh tokens with reuse detection (RFC 9700 section 4.14.2), revocation (RFC 7009), and, as if it were an upstream
//! too, the description of a protected resource (RFC 9728). The embedded issuer signs its access tokens.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use http::Request;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::{Value, json};
use tagalong::demo::{
    issuer::{Config, Issuer},
    serve::{Server, answer},
};
use tokio::sync::watch;

pub const CLIENT: &str = "tagalong-test";
/// Of the client, where it has to have one.
pub const CLIENT_SECRET: &str = "canary-client-secret";
/// In every refresh token, and in nothing else.
pub const CANARY: &str = "canary-rt";

/// A running provider. Dropping it stops it.
pub struct Provider {
    server: Server,
    inner: Arc<Inner>,
}

struct Inner {
    /// Signs the access tokens.
    issuer: Issuer,
    state: Mutex<State>,
    seen: watch::Sender<Seen>,
    held: watch::Sender<bool>,
    outage: Mutex<Outage>,
}

/// Whether it can be asked for anything; its keys always can, so that upstream is not affected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Outage {
    #[default]
    None,
    /// 503 to everything.
    Answers,
    /// Connections are cut before anything is looked at.
    Cuts,
}

/// What the provider was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    pub device_polls: u64,
    /// Requests with a refresh token, whatever became of them.
    pub refresh_requests: u64,
    /// Requests while it was down, whatever for.
    pub turned_away: u64,
    /// Those that were granted.
    pub refreshes: u64,
    /// A refresh token that had been replaced already: the family is dead.
    pub reused: u64,
    pub revoked: u64,
    /// Forms of the requests to `/token`, without secrets.
    pub audiences: Vec<String>,
}

struct State {
    url: String,
    audience: String,
    devices: BTreeMap<String, Waiting>,
    /// By code: challenge, redirect, nonce.
    codes: BTreeMap<String, (String, String, Option<String>)>,
    /// Refresh tokens by family; the last is good.
    families: Vec<Vec<String>>,
    script: VecDeque<http::Response<String>>,
    settings: Settings,
}

/// A device code: what the person did, and the challenge that it was asked for with.
struct Waiting {
    decided: Option<bool>,
    challenge: Option<String>,
}

/// How it behaves; the default is a strict one.
#[derive(Clone, Debug)]
pub struct Settings {
    pub rotates: bool,
    /// Takes the token before the newest one again: Okta's and Auth0's grace.
    pub is_lenient: bool,
    /// As it stands in the answer; null leaves it out.
    pub expires_in: Value,
    pub interval: f64,
    pub device_lifetime: u64,
    pub gives_refresh: bool,
    pub is_opaque: bool,
    /// The client is a confidential one, and shows its secret in this way and no other.
    pub secret_by: Option<&'static str>,
    /// Says that it has PKCE, and insists on it in the device grant too, as Keycloak can be told to; else it takes none.
    pub has_pkce: bool,
    /// Is one of OpenID Connect; else it ignores `openid`, as plain OAuth does.
    pub gives_id: bool,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            rotates: true,
            is_lenient: false,
            expires_in: json!(600),
            interval: 0.02,
            device_lifetime: 300,
            gives_refresh: true,
            is_opaque: false,
            secret_by: None,
            has_pkce: true,
            gives_id: true,
        }
    }
}

impl Provider {
    pub async fn start() -> Provider {
        Provider::with(Settings::default()).await
    }

    pub async fn with(settings: Settings) -> Provider {
        let issuer = Issuer::start(Config::default()).await.expect("a port");
        let keys = format!("{}/keys", issuer.url());
        let inner = Arc::new(Inner {
            issuer,
            state: Mutex::new(State {
                url: String::new(),
                audience: "https://upstream.example".to_owned(),
                devices: BTreeMap::new(),
                codes: BTreeMap::new(),
                families: Vec::new(),
                script: VecDeque::new(),
                settings,
            }),
            seen: watch::channel(Seen::default()).0,
            held: watch::channel(false).0,
            outage: Mutex::default(),
        });
        let handler = inner.clone();
        let server = Server::start(move |request| {
            let (handler, keys) = (handler.clone(), keys.clone());
            Box::pin(async move { handler.respond(request, &keys).await })
        })
        .await
        .expect("a port");
        let url = format!("http://{}", server.address());
        inner.state().url.clone_from(&url);
        inner.issuer.edit(|config| {
            config.claims.insert("iss".to_owned(), json!(url));
            config.claims.insert("sub".to_owned(), json!("ada-1"));
        });
        Provider { server, inner }
    }

    pub fn url(&self) -> String {
        self.inner.state().url.clone()
    }

    pub fn seen(&self) -> Seen {
        self.inner.seen.borrow().clone()
    }

    pub async fn wait(&self, reached: impl FnMut(&Seen) -> bool) {
        let mut seen = self.inner.seen.subscribe();
        seen.wait_for(reached).await.expect("the provider lives");
    }

    /// For whom its tokens are.
    pub fn set_audience(&self, audience: &str) {
        audience.clone_into(&mut self.inner.state().audience);
    }

    pub fn edit(&self, edit: impl FnOnce(&mut Settings)) {
        edit(&mut self.inner.state().settings);
    }

    /// The next requests to `/token` are answered so.
    pub fn script(&self, status: u16, content_type: &'static str, body: impl ToString) {
        let response = http::Response::builder()
            .status(status)
            .header(http::header::CONTENT_TYPE, content_type);
        let response = response.body(body.to_string()).expect("an answer");
        self.inner.state().script.push_back(response);
    }

    /// The next request to `/token` is answered so, with `Retry-After`.
    pub fn script_pause(&self, status: u16, pause: &str) {
        let response = http::Response::builder()
            .status(status)
            .header(http::header::RETRY_AFTER, pause);
        let response = response.body(String::new()).expect("an answer");
        self.inner.state().script.push_back(response);
    }

    /// While held, a refresh is granted and its answer kept back.
    pub fn hold(&self, held: bool) {
        self.inner.held.send_replace(held);
    }

    pub fn set_outage(&self, outage: Outage) {
        *self.inner.outage.lock().expect("no handler panics") = outage;
    }

    /// Of access tokens, from `iat` to `exp`; `expires_in` is told apart from it.
    pub fn set_lifetime(&self, lifetime: Duration) {
        self.inner.issuer.set_lifetime(lifetime);
    }

    pub fn kill(&self) {
        self.server.kill();
    }

    /// A refresh token as a login would bring it.
    pub fn grant(&self) -> String {
        self.inner.state().new_family()
    }

    /// The person confirms, or declines, whatever waits.
    pub fn confirm(&self, yes: bool) {
        for waiting in self.inner.state().devices.values_mut() {
            waiting.decided = Some(yes);
        }
    }

    /// How many families have a token that is good.
    pub fn alive(&self) -> usize {
        let state = self.inner.state();
        state.families.iter().filter(|family| !family.is_empty()).count()
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no handler panics")
    }

    fn see(&self, change: impl FnOnce(&mut Seen)) {
        self.seen.send_modify(change);
    }

    async fn respond(
        &self,
        request: Request<Incoming>,
        keys: &str,
    ) -> Option<http::Response<tagalong::demo::serve::Body>> {
        let (path, query) = (
            request.uri().path().to_owned(),
            request.uri().query().unwrap_or_default().to_owned(),
        );
        if path != "/keys" {
            let outage = *self.outage.lock().expect("no handler panics");
            if outage != Outage::None {
                self.see(|seen| seen.turned_away += 1);
            }
            match outage {
                Outage::None => {}
                Outage::Answers => return Some(answer(503, "text/plain", "down")),
                Outage::Cuts => return None,
            }
        }
        let authorization = request.headers().get(http::header::AUTHORIZATION).cloned();
        let bytes = request.into_body().collect().await.ok()?.to_bytes();
        let form: BTreeMap<String, String> = url::form_urlencoded::parse(&bytes).into_owned().collect();
        let json_answer = |status: u16, value: Value| Some(answer(status, "application/json", value.to_string()));
        let is_for_clients = matches!(path.as_str(), "/device" | "/token" | "/revoke");
        if is_for_clients && !self.is_proven(&form, authorization.as_ref()) {
            return json_answer(
                401,
                json!({"error": "invalid_client", "error_description": CLIENT_SECRET}),
            );
        }
        match path.as_str() {
            "/.well-known/openid-configuration" => json_answer(200, self.document()),
            "/.well-known/oauth-protected-resource" => json_answer(200, self.description()),
            "/keys" => {
                let keys = reqwest::get(keys).await.ok()?.bytes().await.ok()?;
                Some(answer(200, "application/json", keys))
            }
            "/device" => {
                let (status, value) = self.device(&form);
                json_answer(status, value)
            }
            "/authorize" => {
                let asked = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
                let mut response = answer(302, "text/plain", "");
                let place = self.authorize(&asked);
                response
                    .headers_mut()
                    .insert(http::header::LOCATION, place.parse().ok()?);
                Some(response)
            }
            "/token" => {
                let scripted = self.state().script.pop_front();
                if let Some(response) = scripted {
                    self.see(|seen| seen.refresh_requests += 1);
                    let mut held = self.held.subscribe();
                    let _ = held.wait_for(|held| !held).await;
                    return Some(response.map(tagalong::demo::serve::body));
                }
                let (status, value) = self.token(&form).await;
                json_answer(status, value)
            }
            "/revoke" => {
                let token = form.get("token").cloned().unwrap_or_default();
                for family in &mut self.state().families {
                    if family.contains(&token) {
                        family.clear();
                    }
                }
                self.see(|seen| seen.revoked += 1);
                json_answer(200, json!({}))
            }
            _ => json_answer(404, json!({})),
        }
    }

    /// OpenID Connect Discovery 1.0 section 3.
    fn document(&self) -> Value {
        let state = self.state();
        let url = &state.url;
        let mut document = json!({
            "issuer": url,
            "token_endpoint": format!("{url}/token"),
            "authorization_endpoint": format!("{url}/authorize"),
            "device_authorization_endpoint": format!("{url}/device"),
            "revocation_endpoint": format!("{url}/revoke"),
            "jwks_uri": format!("{url}/keys"),
            "scopes_supported": ["openid", "offline_access", "telemetry"],
            "authorization_response_iss_parameter_supported": true,
        });
        if state.settings.has_pkce {
            document["code_challenge_methods_supported"] = json!(["S256"]);
        }
        if let Some(method) = state.settings.secret_by {
            document["token_endpoint_auth_methods_supported"] = json!([method]);
        }
        document
    }

    /// RFC 6749 section 2.3.1; in the way that the metadata says, and in one way only.
    fn is_proven(&self, form: &BTreeMap<String, String>, authorization: Option<&http::HeaderValue>) -> bool {
        use base64::{Engine, engine::general_purpose::STANDARD};
        let basic = format!("Basic {}", STANDARD.encode(format!("{CLIENT}:{CLIENT_SECRET}")));
        let shown = (
            authorization.map(http::HeaderValue::as_bytes),
            form.get("client_secret"),
        );
        match (self.state().settings.secret_by, shown) {
            (None, (None, None)) => true,
            (Some("client_secret_basic"), (Some(header), None)) => header == basic.as_bytes(),
            (Some("client_secret_post"), (None, Some(secret))) => secret == CLIENT_SECRET,
            _ => false,
        }
    }

    /// RFC 9728 section 2.
    fn description(&self) -> Value {
        let url = &self.state().url;
        json!({
            "resource": url,
            "authorization_servers": [url],
            "scopes_supported": ["telemetry"],
            "client_id": CLIENT,
        })
    }

    /// RFC 8628 section 3.2.
    fn device(&self, form: &BTreeMap<String, String>) -> (u16, Value) {
        if !names_what_it_wants(form) {
            return (400, json!({"error": "invalid_scope"}));
        }
        let mut state = self.state();
        let challenge = form.get("code_challenge").cloned();
        let method = form.get("code_challenge_method").map(String::as_str);
        if (challenge.is_some(), method) != (state.settings.has_pkce, state.settings.has_pkce.then_some("S256")) {
            return (400, json!({"error": "invalid_request"}));
        }
        let number = state.devices.len();
        let (code, user_code) = (format!("device-{number}"), format!("WDJB-{number:04}"));
        let waiting = Waiting {
            decided: None,
            challenge,
        };
        state.devices.insert(code.clone(), waiting);
        let answer = json!({
            "device_code": code,
            "user_code": user_code,
            "verification_uri": format!("{}/go", state.url),
            "verification_uri_complete": format!("{}/go?code={user_code}", state.url),
            "expires_in": state.settings.device_lifetime,
            "interval": state.settings.interval,
        });
        (200, answer)
    }

    /// RFC 6749 section 4.1.2, as if a person had agreed; with the issuer's name (RFC 9207).
    fn authorize(&self, asked: &BTreeMap<String, String>) -> String {
        let of = |name: &str| asked.get(name).cloned().unwrap_or_default();
        assert_eq!(
            (of("response_type").as_str(), of("code_challenge_method").as_str()),
            ("code", "S256")
        );
        assert!(names_what_it_wants(asked));
        let mut state = self.state();
        let code = format!("code-{}", state.codes.len());
        let held = (of("code_challenge"), of("redirect_uri"), asked.get("nonce").cloned());
        state.codes.insert(code.clone(), held);
        let mut place = url::Url::parse(&of("redirect_uri")).expect("a redirect");
        place
            .query_pairs_mut()
            .append_pair("code", &code)
            .append_pair("state", &of("state"))
            .append_pair("iss", &state.url);
        place.to_string()
    }

    async fn token(&self, form: &BTreeMap<String, String>) -> (u16, Value) {
        let of = |name: &str| form.get(name).cloned().unwrap_or_default();
        let refused = |word: &str| (400, json!({"error": word}));
        if of("client_id") != CLIENT {
            return (401, json!({"error": "invalid_client"}));
        }
        let (refresh, nonce) = match of("grant_type").as_str() {
            "urn:ietf:params:oauth:grant-type:device_code" => {
                self.see(|seen| seen.device_polls += 1);
                let mut state = self.state();
                let Some(waiting) = state.devices.get(&of("device_code")) else {
                    return refused("expired_token");
                };
                if waiting.challenge != form.get("code_verifier").map(|verifier| challenge_of(verifier)) {
                    return refused("invalid_grant");
                }
                match waiting.decided {
                    Some(true) => (state.new_family(), None),
                    Some(false) => return refused("access_denied"),
                    None => return refused("authorization_pending"),
                }
            }
            "authorization_code" => {
                let Some((challenge, redirect, nonce)) = self.state().codes.remove(&of("code")) else {
                    return refused("invalid_grant");
                };
                if challenge != challenge_of(&of("code_verifier")) || redirect != of("redirect_uri") {
                    return refused("invalid_grant");
                }
                (self.state().new_family(), nonce)
            }
            "refresh_token" => {
                self.see(|seen| seen.refresh_requests += 1);
                let Some(refresh) = self.refresh(&of("refresh_token")) else {
                    return refused("invalid_grant");
                };
                self.see(|seen| {
                    seen.refreshes += 1;
                    seen.audiences.push(of("audience"));
                });
                // Granted, and the answer is on its way.
                let mut held = self.held.subscribe();
                let _ = held.wait_for(|held| !held).await;
                (refresh, None)
            }
            _ => return refused("unsupported_grant_type"),
        };
        (200, self.tokens(refresh, nonce))
    }

    fn tokens(&self, refresh: String, nonce: Option<String>) -> Value {
        let (settings, audience, url) = {
            let state = self.state();
            (state.settings.clone(), state.audience.clone(), state.url.clone())
        };
        let access = self.issuer.mint(&audience);
        let id = id_token(&json!({
            "iss": url, "aud": CLIENT, "sub": "ada-1", "email": "ada@example.com", "email_verified": true, "nonce": nonce,
            "exp": 4_000_000_000_u64,
        }));
        let mut value = json!({
            "access_token": if settings.is_opaque { "opaque-token".to_owned() } else { access },
            "token_type": "Bearer",
        });
        if settings.gives_id {
            value["id_token"] = id.into();
        }
        if !settings.expires_in.is_null() {
            value["expires_in"] = settings.expires_in;
        }
        if settings.gives_refresh && !refresh.is_empty() {
            value["refresh_token"] = refresh.into();
        }
        value
    }

    /// The new refresh token, or an empty one where the old stays; none if the family is dead.
    fn refresh(&self, sent: &str) -> Option<String> {
        let mut state = self.state();
        let settings = state.settings.clone();
        let number = state
            .families
            .iter()
            .position(|family| family.iter().any(|token| token == sent))?;
        let family = &mut state.families[number];
        let is_newest = family.last().is_some_and(|newest| newest == sent);
        let is_second = family.iter().rev().nth(1).is_some_and(|second| second == sent);
        let is_good = is_newest || (settings.is_lenient && is_second);
        if !is_good {
            // RFC 9700 section 4.14.2: whoever sent it, the whole family is over.
            family.clear();
            drop(state);
            self.see(|seen| seen.reused += 1);
            return None;
        }
        if !settings.rotates {
            return Some(String::new());
        }
        let next = format!("{CANARY}-{number}-{}", family.len());
        family.push(next.clone());
        Some(next)
    }
}

impl State {
    fn new_family(&mut self) -> String {
        let token = format!("{CANARY}-{}-0", self.families.len());
        self.families.push(vec![token.clone()]);
        token
    }
}

/// Scopes and audience are asked for in so many words, whatever an issuer would give by itself.
fn names_what_it_wants(form: &BTreeMap<String, String>) -> bool {
    let is_said = |name: &str| form.get(name).is_some_and(|value| !value.is_empty());
    is_said("scope") && is_said("audience") && is_said("resource")
}

/// RFC 7636 section 4.2.
fn challenge_of(verifier: &str) -> String {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, verifier.as_bytes());
    URL_SAFE_NO_PAD.encode(digest)
}

/// Nobody in these stories checks an ID token's signature.
fn id_token(claims: &Value) -> String {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.c2ln", part(&json!({"alg": "ES256"})), part(claims))
}

/// Long enough for a loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(60);
