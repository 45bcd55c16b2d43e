//! The HTTP client of every command.
//!
//! INVARIANT: it speaks TLS only, believes no authority but the profile's, follows no redirect, uses no
//! proxy that the environment names, and takes no more of an answer than its bound.
//!
//! Not here: shapes (`sallyport-api`), which route does what (`commands/`).

use std::time::Duration;

use reqwest::{Certificate, Method, RequestBuilder, Response, StatusCode, Url, redirect};
use sallyport_api::{
    rest::{
        page::Page,
        problem::{PROBLEM_MEDIA_TYPE, Problem},
    },
    sensitive::Sensitive,
};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    failure::{Exit, Failure, chain},
    profile::Profile,
};

/// Time to reach the server, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for a whole answer. Longer than the server's own bound, so that its words are read.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// Largest answer that is read whole.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Most items the server puts on one page.
const PAGE_ITEMS_MAX: u32 = 500;

/// No query.
pub const NOTHING: [(&str, &str); 0] = [];

/// A client of one server.
#[derive(Debug)]
pub struct Client {
    http: reqwest::Client,
    base: Url,
    token: Option<Sensitive>,
}

/// The beginning of a list.
#[derive(Debug)]
pub struct Listed<T> {
    /// Items, in the server's order.
    pub items: Vec<T>,
    /// Whether there are more.
    pub has_more: bool,
}

impl Client {
    /// A client of the profile's server, with a token or without.
    pub fn new(profile: &Profile, token: Option<Sensitive>) -> Result<Self, Failure> {
        let base = base_url(profile.server()?)?;
        let (path, pem) = profile.ca()?;
        let not_certificates = |problem: String| {
            Failure::failed(
                format!("read certificates in `{}`: {problem}", path.display()),
                "pass `--ca FILE` with the server's `ca.pem`",
            )
        };
        let authorities = Certificate::from_pem_bundle(pem.as_bytes())
            .map_err(|error| not_certificates(chain(&error)))?;
        if authorities.is_empty() {
            return Err(not_certificates("there is none".to_owned()));
        }
        let http = reqwest::Client::builder()
            .tls_certs_only(authorities)
            .https_only(true)
            .redirect(redirect::Policy::none())
            .no_proxy()
            .connect_timeout(CONNECT_TIMEOUT)
            .user_agent(concat!("sallyport/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| not_certificates(chain(&error)))?;
        Ok(Self { http, base, token })
    }

    /// The server's host, without the port.
    pub fn host(&self) -> &str {
        self.base.host_str().unwrap_or("localhost")
    }

    /// Reads a thing.
    pub async fn get<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &(impl Serialize + ?Sized),
    ) -> Result<T, Failure> {
        let request = self.request(Method::GET, path)?.query(query);
        parse(&self.answer(request).await?)
    }

    /// Sends a body and reads the answer.
    pub async fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &[&str],
        body: &(impl Serialize + ?Sized),
    ) -> Result<T, Failure> {
        let request = self.request(method, path)?.json(body);
        parse(&self.answer(request).await?)
    }

    /// Posts a body and reads the answer.
    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &[&str],
        body: &(impl Serialize + ?Sized),
    ) -> Result<T, Failure> {
        self.send(Method::POST, path, body).await
    }

    /// Posts a body with a query and reads the answer.
    pub async fn post_with<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &impl Serialize,
        body: &impl Serialize,
    ) -> Result<T, Failure> {
        let request = self.request(Method::POST, path)?.query(query).json(body);
        parse(&self.answer(request).await?)
    }

    /// Posts nothing and reads the answer.
    pub async fn act<T: DeserializeOwned>(&self, path: &[&str]) -> Result<T, Failure> {
        parse(&self.answer(self.request(Method::POST, path)?).await?)
    }

    /// Posts a body; the answer has none.
    pub async fn deliver(
        &self,
        path: &[&str],
        body: &(impl Serialize + ?Sized),
    ) -> Result<(), Failure> {
        let request = self.request(Method::POST, path)?.json(body);
        self.answer(request).await.map(|_| ())
    }

    /// Does something whose answer has no body.
    pub async fn order(&self, method: Method, path: &[&str]) -> Result<(), Failure> {
        self.answer(self.request(method, path)?).await.map(|_| ())
    }

    /// Reads up to `limit` items of a list, page after page.
    pub async fn list<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &[(&str, &str)],
        limit: u32,
    ) -> Result<Listed<T>, Failure> {
        let wanted = usize::try_from(limit).unwrap_or(usize::MAX);
        let mut items: Vec<T> = Vec::new();
        let mut cursor: Option<String> = None;
        loop {
            let missing = wanted.saturating_sub(items.len());
            let page_items = u32::try_from(missing)
                .unwrap_or(PAGE_ITEMS_MAX)
                .clamp(1, PAGE_ITEMS_MAX)
                .to_string();
            let mut query = query.to_vec();
            query.push(("limit", &page_items));
            if let Some(cursor) = &cursor {
                query.push(("cursor", cursor));
            }
            let page: Page<T> = self.get(path, &query).await?;
            let is_empty = page.items.is_empty();
            items.extend(page.items);
            let has_more = page.next.is_some();
            if !has_more || is_empty || items.len() >= wanted {
                items.truncate(wanted);
                return Ok(Listed { items, has_more });
            }
            cursor = page.next;
        }
    }

    /// Begins to read an answer that may last, piece by piece.
    pub async fn stream(
        &self,
        path: &[&str],
        query: &(impl Serialize + ?Sized),
    ) -> Result<Streamed, Failure> {
        let request = self.request(Method::GET, path)?.query(query);
        self.begin(request).await
    }

    /// Posts a body and begins to read an answer that may last, piece by piece.
    pub async fn stream_answer(
        &self,
        path: &[&str],
        body: &(impl Serialize + ?Sized),
    ) -> Result<Streamed, Failure> {
        let request = self.request(Method::POST, path)?.json(body);
        self.begin(request).await
    }

    async fn begin(&self, request: RequestBuilder) -> Result<Streamed, Failure> {
        let response = request
            .send()
            .await
            .map_err(|error| self.unreachable(&error))?;
        if response.status().is_success() {
            return Ok(Streamed { response });
        }
        Err(self.refusal(response).await)
    }

    fn request(&self, method: Method, path: &[&str]) -> Result<RequestBuilder, Failure> {
        let mut url = self.base.clone();
        match url.path_segments_mut() {
            Ok(mut segments) => segments.pop_if_empty().push("v1").extend(path),
            Err(()) => return Err(not_a_server(self.base.as_str())),
        };
        let request = self.http.request(method, url);
        Ok(match &self.token {
            Some(token) => request.bearer_auth(token.expose()),
            None => request,
        })
    }

    async fn answer(&self, request: RequestBuilder) -> Result<Vec<u8>, Failure> {
        let response = request
            .timeout(ANSWER_TIMEOUT)
            .send()
            .await
            .map_err(|error| self.unreachable(&error))?;
        if !response.status().is_success() {
            return Err(self.refusal(response).await);
        }
        self.body(response).await
    }

    async fn body(&self, mut response: Response) -> Result<Vec<u8>, Failure> {
        let mut body = Vec::new();
        while let Some(piece) = response
            .chunk()
            .await
            .map_err(|error| self.unreachable(&error))?
        {
            if body.len().saturating_add(piece.len()) > ANSWER_BYTES_MAX {
                return Err(not_sallyport("its answer is larger than 64 MiB"));
            }
            body.extend_from_slice(&piece);
        }
        Ok(body)
    }

    /// What the server said instead of yes.
    async fn refusal(&self, response: Response) -> Failure {
        let status = response.status();
        let is_problem = response
            .headers()
            .get(reqwest::header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .is_some_and(|kind| kind.starts_with(PROBLEM_MEDIA_TYPE));
        let body = match self.body(response).await {
            Ok(body) => body,
            Err(failure) => return failure,
        };
        match serde_json::from_slice::<Problem>(&body) {
            Ok(problem) if is_problem => Failure::of_problem(problem),
            _ if status == StatusCode::UNAUTHORIZED => Failure::new(
                Exit::NotSignedIn,
                "the server does not accept the token",
                "sign in: `sallyport login`",
            ),
            _ => not_sallyport(&format!("it answers with status {status}")),
        }
    }

    fn unreachable(&self, error: &reqwest::Error) -> Failure {
        let cause = chain(&CauseOf(error));
        let next = if cause.contains("certificate") {
            "if its authority was changed on purpose, pass the new one: `sallyport login --ca FILE`; \
             if not, tell your security team"
        } else {
            "check the address and that the server runs: `sallyport status`"
        };
        Failure::new(
            Exit::Unreachable,
            format!("reach `{}`: {cause}", self.base),
            next,
        )
    }
}

/// The causes of an HTTP error; its own words repeat the URL and no more.
#[derive(Debug)]
struct CauseOf<'a>(&'a reqwest::Error);

impl std::fmt::Display for CauseOf<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_timeout() {
            "no answer in time"
        } else if self.0.is_connect() {
            "no connection"
        } else {
            "the connection broke"
        })
    }
}

impl std::error::Error for CauseOf<'_> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(self.0)
    }
}

/// An answer that may last.
#[derive(Debug)]
pub struct Streamed {
    response: Response,
}

impl Streamed {
    /// A header of the answer, which must be there.
    pub fn header(&self, name: &str) -> Result<String, Failure> {
        let value = self.response.headers().get(name);
        value
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned)
            .ok_or_else(|| not_sallyport(&format!("its answer has no `{name}`")))
    }

    /// The next piece; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        match self.response.chunk().await {
            Ok(piece) => Ok(piece.map(|piece| piece.to_vec())),
            Err(error) => Err(Failure::new(
                Exit::Unreachable,
                format!("read on: {}", chain(&error)),
                "start again; what was read before is whole",
            )),
        }
    }
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(body).map_err(|error| not_sallyport(&error.to_string()))
}

fn not_sallyport(why: &str) -> Failure {
    Failure::failed(
        format!("the server's answer makes no sense: {why}"),
        "check that the address is a Sallyport server of the same version: `sallyport status`",
    )
}

fn base_url(text: &str) -> Result<Url, Failure> {
    let url = Url::parse(text).map_err(|_| not_a_server(text))?;
    let is_base = url.scheme() == "https"
        && url.has_host()
        && url.query().is_none()
        && url.username().is_empty();
    if is_base {
        Ok(url)
    } else {
        Err(not_a_server(text))
    }
}

fn not_a_server(text: &str) -> Failure {
    Failure::usage(
        format!("`{text}` is no server"),
        "write one like https://gw.example:7443",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_anything_but_an_https_address_then_it_is_no_server() {
        for text in [
            "http://gw.example:7443",
            "gw.example:7443",
            "https://",
            "https://user@gw.example",
            "https://gw.example/?x=1",
            "",
        ] {
            assert_eq!(base_url(text).unwrap_err().exit(), Exit::Usage, "{text}");
        }
        assert!(base_url("https://[::1]:7443").is_ok());
    }
}
