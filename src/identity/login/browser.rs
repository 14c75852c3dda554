//! A code with PKCE on a loopback redirect (RFC 6749 section 4.1, RFC 7636, RFC 8252 section 7.3): for a machine with a
//! browser at hand.
//!
//! The listener is on 127.0.0.1 alone, takes one answer, and only one that knows the `state`; every other visitor gets
//! a page that says that there is nothing here. The code in the answer is worth nothing without the verifier, which
//! never leaves this process but for the token endpoint.

use std::{
    convert::Infallible,
    net::Ipv4Addr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use oauth2::{AuthUrl, ClientId, CsrfToken, PkceCodeChallenge, RedirectUrl, Scope, basic::BasicClient};
use tokio::{net::TcpListener, sync::oneshot};
use url::Url;
use zeroize::Zeroizing;

use super::{App, LoginError};
use crate::identity::{
    claims::Claims,
    discovery::Metadata,
    grant::{self, GrantError, Refusal, Tokens},
    secret::Secret,
};

/// A person finds a second factor within this.
pub const PATIENCE: Duration = Duration::from_secs(600);
const PATH: &str = "/callback";
/// For the page to arrive before the listener is gone.
const FAREWELL: Duration = Duration::from_secs(2);
/// Whoever connects says by then what is wanted: anybody on this machine may connect, and files are not without end.
const SILENCE: Duration = Duration::from_secs(5);
/// The others wait until one of these is gone.
const VISITORS: usize = 64;

/// A login that waits for a browser to come back.
#[derive(Debug)]
pub struct Browser {
    /// Where the person goes. It holds no secret.
    pub url: Url,
    listener: TcpListener,
    redirect: String,
    verifier: Secret,
    state: Secret,
    nonce: Option<String>,
}

/// What the browser brought.
type Brought = Result<Secret, LoginError>;

impl Browser {
    /// Listens, and works out where to send the person.
    ///
    /// # Errors
    /// The issuer has no such grant, or no port can be had.
    pub async fn begin(metadata: &Metadata, app: &App) -> Result<Browser, LoginError> {
        let not_offered = |what| LoginError::NotOffered(what, "log in with `--device`, or allow it there");
        let endpoint = metadata
            .authorization_endpoint
            .as_ref()
            .ok_or_else(|| not_offered("authorization endpoint"))?;
        // Many issuers have PKCE and do not say so; one that names methods means them.
        if !metadata.code_challenge_methods_supported.is_empty() && !metadata.has_pkce() {
            return Err(not_offered("PKCE with S256"));
        }
        let port = |error: std::io::Error| LoginError::Port(error.to_string());
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(port)?;
        let redirect = format!("http://{}{PATH}", listener.local_addr().map_err(port)?);
        let useless = |error: url::ParseError| LoginError::Port(error.to_string());
        let client = BasicClient::new(ClientId::new(app.client_id.clone()))
            .set_auth_uri(AuthUrl::from_url(endpoint.clone()))
            .set_redirect_uri(RedirectUrl::new(redirect.clone()).map_err(useless)?);
        let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
        // An ID token is what carries a nonce.
        let wants_id = app.scopes.iter().any(|scope| scope == "openid");
        let nonce = wants_id.then(|| CsrfToken::new_random().into_secret());
        let mut request = client
            .authorize_url(CsrfToken::new_random)
            .set_pkce_challenge(challenge)
            .add_scopes(app.scopes.iter().cloned().map(Scope::new));
        for (name, value) in app.audience_words() {
            request = request.add_extra_param(name, value);
        }
        if let Some(nonce) = &nonce {
            request = request.add_extra_param("nonce", nonce);
        }
        if app.scopes.iter().any(|scope| scope == "offline_access") {
            // OpenID Connect Core section 11: without it there is no offline access.
            request = request.add_extra_param("prompt", "consent");
        }
        let (url, state) = request.url();
        let (verifier, state) = (Secret::new(verifier.into_secret()), Secret::new(state.into_secret()));
        Ok(Browser {
            url,
            listener,
            redirect,
            verifier,
            state,
            nonce,
        })
    }

    /// Takes the one answer, and turns its code into tokens.
    ///
    /// # Errors
    /// Declined, too late, an answer of another issuer's, or a refusal of the code.
    pub async fn wait(self, client: &reqwest::Client, metadata: &Metadata, app: &App) -> Result<Tokens, LoginError> {
        let issuer = (app.issuer.clone(), metadata.names_itself_in_redirects);
        let answered = tokio::time::timeout(PATIENCE, answer(&self.listener, self.state.clone(), issuer)).await;
        let code = answered.unwrap_or(Err(LoginError::TooLate))?;
        drop(self.listener);
        let form = [
            ("grant_type", "authorization_code"),
            ("code", code.expose()),
            ("redirect_uri", self.redirect.as_str()),
            ("client_id", app.client_id.as_str()),
            ("code_verifier", self.verifier.expose()),
        ];
        let mut form = form.to_vec();
        form.extend(app.audience_words());
        let proof = app.proof(metadata).await?;
        let tokens = grant::request(client, &metadata.token_endpoint, &form, proof.as_ref(), "the issuer").await?;
        is_answer_to(&tokens, app, self.nonce.as_deref(), metadata.has_pkce())?;
        Ok(tokens)
    }
}

/// OpenID Connect Core section 3.1.3.7, but for the signature: the token came from the issuer over TLS.
///
/// An answer without an ID token breaks section 3.1.3.3, but issuers of plain OAuth ignore the `openid` that asked for it.
/// It is taken where the issuer says that it has PKCE, which binds the code to this login as well as the nonce would
/// (RFC 9700 section 2.1.1), and whoever logs in is told. Where nothing but the nonce could bind it, it is refused.
fn is_answer_to(tokens: &Tokens, app: &App, nonce: Option<&str>, has_pkce: bool) -> Result<(), LoginError> {
    let foreign = |what: &str| {
        Err(LoginError::Foreign(format!(
            "the issuer's ID token {what}: log in again"
        )))
    };
    let (nonce, id) = match (nonce, &tokens.id) {
        (None, _) => return Ok(()),
        (Some(_), None) if has_pkce => return Ok(()),
        (Some(_), None) => {
            return Err(LoginError::NotOffered(
                "ID token for a login with openid, and does not say that it has PKCE",
                "let it issue ID tokens, log in with `--device`, or take openid out of identity.scopes",
            ));
        }
        (Some(nonce), Some(id)) => (nonce, id),
    };
    let Some(claims) = Claims::decode(id.expose()) else {
        return foreign("cannot be read");
    };
    if claims.text("iss").as_deref() != Some(app.issuer.as_str()) {
        return foreign("is of another issuer");
    }
    if !claims.audiences().contains(&app.client_id.as_str()) {
        return foreign("is for another client");
    }
    if claims.text("nonce").as_deref() != Some(nonce) {
        return foreign("answers another login");
    }
    Ok(())
}

/// Serves until one visitor brings the right state.
async fn answer(listener: &TcpListener, state: Secret, issuer: (String, bool)) -> Brought {
    let address = listener
        .local_addr()
        .map_err(|error| LoginError::Port(error.to_string()))?;
    let (bring, mut brought) = oneshot::channel();
    let door = Arc::new(Door {
        hosts: [address.to_string(), format!("localhost:{}", address.port())],
        state,
        issuer,
        bring: Mutex::new(Some(bring)),
    });
    let mut visits = tokio::task::JoinSet::new();
    let result = loop {
        tokio::select! {
            result = &mut brought => break result.unwrap_or(Err(LoginError::TooLate)),
            accepted = listener.accept(), if visits.len() < VISITORS => {
                let Ok((stream, _)) = accepted else { continue };
                let door = door.clone();
                visits.spawn(async move {
                    let service = service_fn(move |request| {
                        let response = door.open(&request);
                        async move { Ok::<_, Infallible>(response) }
                    });
                    // A visitor that goes away is no news.
                    let _ = http1::Builder::new()
                        .keep_alive(false)
                        .timer(TokioTimer::new())
                        .header_read_timeout(SILENCE)
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
            Some(_) = visits.join_next() => {}
        }
    };
    let farewell = async { while visits.join_next().await.is_some() {} };
    // Whoever holds a connection open without a word does not hold up the login.
    let _ = tokio::time::timeout(FAREWELL, farewell).await;
    result
}

/// What one redirect has to know.
struct Door {
    /// What a browser may call this listener; a name that was rebound to 127.0.0.1 is another.
    hosts: [String; 2],
    state: Secret,
    issuer: (String, bool),
    bring: Mutex<Option<oneshot::Sender<Brought>>>,
}

impl Door {
    fn open(&self, request: &Request<Incoming>) -> Response<Full<bytes::Bytes>> {
        let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
        let is_ours = request.method() == Method::GET
            && request.uri().path() == PATH
            && host.is_some_and(|host| self.hosts.iter().any(|ours| ours == host));
        if !is_ours {
            return page(StatusCode::NOT_FOUND, "There is nothing here.");
        }
        let query = request.uri().query().unwrap_or_default();
        let part = |name: &str| {
            url::form_urlencoded::parse(query.as_bytes())
                .find(|(key, _)| key == name)
                .map(|(_, value)| Zeroizing::new(value.into_owned()))
        };
        let state = part("state").unwrap_or_default();
        if verify_slices_are_equal(state.as_bytes(), self.state.expose().as_bytes()).is_err() {
            return page(
                StatusCode::BAD_REQUEST,
                "This answers no login that tagalong waits for.",
            );
        }
        let Some(bring) = self.bring.lock().unwrap_or_else(PoisonError::into_inner).take() else {
            return page(StatusCode::BAD_REQUEST, "This login was answered already.");
        };
        let brought = self.judge(part);
        let shown = match &brought {
            Ok(_) => page(StatusCode::OK, "tagalong has its answer. You can close this page."),
            Err(_) => page(StatusCode::OK, "The login did not come about. You can close this page."),
        };
        // Whoever waited may have given up.
        let _ = bring.send(brought);
        shown
    }

    fn judge(&self, part: impl Fn(&str) -> Option<Zeroizing<String>>) -> Brought {
        let (issuer, always_named) = &self.issuer;
        // RFC 9207 section 2.4.
        match part("iss") {
            Some(named) if *named != *issuer => {
                return Err(LoginError::Foreign("another issuer answered the login".to_owned()));
            }
            None if *always_named => {
                return Err(LoginError::Foreign(
                    "the answer to the login names no issuer".to_owned(),
                ));
            }
            _ => {}
        }
        match (part("error"), part("code")) {
            (Some(word), _) if *word == "access_denied" => Err(GrantError::Refused(Refusal::AccessDenied).into()),
            (Some(_), _) => Err(GrantError::Useless("the issuer refused the login at its page".to_owned()).into()),
            (None, Some(code)) if !code.is_empty() => Ok(Secret::new(code.to_string())),
            (None, _) => Err(LoginError::Foreign("the answer to the login holds no code".to_owned())),
        }
    }
}

/// A page that loads nothing, is kept nowhere, and tells nobody where it was.
fn page(status: StatusCode, text: &str) -> Response<Full<bytes::Bytes>> {
    let html = format!("<!doctype html><meta charset=utf-8><title>tagalong</title><p>{text}</p>\n");
    let mut response = Response::new(Full::new(html.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CACHE_CONTROL, "no-store"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CONNECTION, "close"),
    ] {
        headers.insert(name, header::HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
    };

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_comes_without_a_word_is_let_go_and_the_answer_is_heard() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let state = Secret::new("state".to_owned());
        let issuer = ("https://issuer.example".to_owned(), false);
        let answered = tokio::time::timeout(PATIENCE, answer(&listener, state, issuer));
        let visits = async move {
            let mut silent = Vec::new();
            for _ in 0..=VISITORS {
                silent.push(TcpStream::connect(address).await.expect("a connection"));
            }
            for mut visitor in silent {
                // Closed one way or the other.
                let _ = visitor.read_to_end(&mut Vec::new()).await;
            }
            let mut browser = TcpStream::connect(address).await.expect("a connection");
            let request = format!("GET {PATH}?state=state&code=code HTTP/1.1\r\nhost: {address}\r\n\r\n");
            browser.write_all(request.as_bytes()).await.expect("sent");
            let mut page = String::new();
            browser.read_to_string(&mut page).await.expect("a page");
            assert!(page.starts_with("HTTP/1.1 200"), "{page}");
        };
        let visits = tokio::spawn(visits);
        let code = answered.await.expect("within the time").expect("a code");
        assert_eq!(code.expose(), "code");
        visits.await.expect("a page");
    }
}
