//! A running control plane with an owner, people, a target, and requests as a person makes them.

use std::{
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use axum::{Router, body::Body, http::Request};
use http_body_util::BodyExt as _;
use sallyport_control::{
    config::ControlConfig,
    kernel::{caller::ClientAddress, clock::RatchetClock, control::Control},
    routes, secret,
};
use sallyport_core::time::{Clock, Timestamp};
use serde_json::{Value, json};
use tempfile::TempDir;
use tower::ServiceExt as _;

/// A clock that goes when told to.
#[derive(Debug)]
pub struct ManualClock(AtomicI64);

impl ManualClock {
    pub const fn at(time: Timestamp) -> Self {
        Self(AtomicI64::new(time.unix_ms()))
    }

    pub fn advance(&self, by: Duration) {
        let ms = i64::try_from(by.as_millis()).unwrap();
        self.0.fetch_add(ms, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_unix_ms(self.0.load(Ordering::SeqCst))
    }
}

impl RatchetClock for ManualClock {
    fn raise(&self, floor: Timestamp) {
        self.0.fetch_max(floor.unix_ms(), Ordering::SeqCst);
    }

    fn behind(&self) -> Duration {
        Duration::ZERO
    }
}

/// A control plane without sockets, and its gateway socket once served.
pub struct Node {
    pub control: Control,
    pub clock: Arc<ManualClock>,
    pub router: Router,
    directory: Arc<TempDir>,
}

/// Somebody with a token, a password and a one-time-code secret.
pub struct Person {
    pub name: String,
    pub token: String,
    pub totp_uri: String,
}

pub const PASSWORD: &str = "correct horse battery staple";

/// Opens a node as soon as the one before lets go of the directory: a kill ends all tasks of a process at once, and
/// here those that finish what was begun go on for a moment.
async fn opened(config: &ControlConfig, clock: &Arc<ManualClock>) -> Control {
    let mut left = 3_000;
    loop {
        match Control::open(config.clone(), clock.clone()).await {
            Ok(control) => return control,
            Err(error) if left > 0 && format!("{error:?}").contains("InUse") => left -= 1,
            Err(error) => panic!("{error:?}"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

impl Node {
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// With other settings than the defaults.
    pub async fn start_with(set: impl FnOnce(&mut ControlConfig)) -> Self {
        let directory = Arc::new(TempDir::new().unwrap());
        let clock = Arc::new(ManualClock(AtomicI64::new(1_795_355_040_000)));
        let mut config = ControlConfig::default();
        config.store.data_directory = directory.path().join("control");
        set(&mut config);
        Self::open(config, clock, directory, true).await
    }

    /// With a vault that nobody has made yet.
    pub async fn start_without_vault() -> Self {
        let directory = Arc::new(TempDir::new().unwrap());
        let clock = Arc::new(ManualClock(AtomicI64::new(1_795_355_040_000)));
        let mut config = ControlConfig::default();
        config.store.data_directory = directory.path().join("control");
        Self::open(config, clock, directory, false).await
    }

    /// The same node after its process was killed, with a clock that stands at another time.
    pub async fn restart_at(self, time: Timestamp) -> Self {
        let config = self.control.config().clone();
        let Self {
            control,
            clock,
            router,
            directory,
        } = self;
        drop((control, router, clock));
        Self::open(config, Arc::new(ManualClock::at(time)), directory, true).await
    }

    /// The same node after its process was killed, with other settings.
    pub async fn restart_with(self, set: impl FnOnce(&mut ControlConfig)) -> Self {
        let mut config = self.control.config().clone();
        set(&mut config);
        let Self {
            control,
            clock,
            router,
            directory,
        } = self;
        let opens_vault = control
            .vault()
            .status()
            .seal
            .is_some_and(|seal| seal == "key_file");
        drop((control, router));
        Self::open(config, clock, directory, opens_vault).await
    }

    async fn open(
        config: ControlConfig,
        clock: Arc<ManualClock>,
        directory: Arc<TempDir>,
        opens_vault: bool,
    ) -> Self {
        let control = opened(&config, &clock).await;
        if opens_vault {
            let key_file = directory.path().join("vault.key");
            secret::workflow::open_with_key_file(&control, &key_file)
                .await
                .unwrap();
        }
        let router = routes::all().into_router(control.clone());
        Self {
            control,
            clock,
            router,
            directory,
        }
    }

    /// What tasks of a test share.
    pub fn shared(&self) -> Self {
        Self {
            control: self.control.clone(),
            clock: Arc::clone(&self.clock),
            router: self.router.clone(),
            directory: Arc::clone(&self.directory),
        }
    }

    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("control/gateway.sock")
    }

    /// Makes a request; returns status and body.
    pub async fn call(
        &self,
        token: &str,
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> (u16, Value) {
        let client = IpAddr::V4(Ipv4Addr::LOCALHOST);
        self.call_from(client, token, method, path, body).await
    }

    /// As [`Node::call`], by a client at this address.
    pub async fn call_from(
        &self,
        client: IpAddr,
        token: &str,
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> (u16, Value) {
        let mut request = Request::builder().method(method).uri(path);
        if !token.is_empty() {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let body = match body {
            Some(body) => {
                request = request.header("content-type", "application/json");
                Body::from(body.to_string())
            }
            None => Body::empty(),
        };
        let mut request = request.body(body).unwrap();
        request.extensions_mut().insert(ClientAddress(client));
        let response = self.router.clone().oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        let body = if bytes.is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(&bytes).unwrap()
        };
        (status, body)
    }

    /// Makes a request that must succeed; returns its body.
    pub async fn ok(
        &self,
        person: &Person,
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> Value {
        let (status, answer) = self.call(&person.token, method, path, body).await;
        assert!(
            (200..300).contains(&status),
            "{method} {path}: {status} {answer}"
        );
        answer
    }

    /// Enrols and signs in with a code.
    pub async fn enrol(&self, name: &str, code: &str) -> Person {
        let body = json!({ "code": code, "password": PASSWORD, "name": name });
        let (status, enrolled) = self.call("", "POST", "/v1/enrol", Some(body)).await;
        assert_eq!(status, 201, "{enrolled}");
        // A one-time code works once; enrolment used none, sign-in uses the current one.
        let code = one_time_code(enrolled["totp_uri"].as_str().unwrap(), self.clock.now());
        let body = json!({ "name": name, "password": PASSWORD, "code": code });
        let (status, signed_in) = self.call("", "POST", "/v1/sign-in", Some(body)).await;
        assert!((200..300).contains(&status), "{signed_in}");
        Person {
            name: name.to_owned(),
            token: signed_in["token"].as_str().unwrap().to_owned(),
            totp_uri: enrolled["totp_uri"].as_str().unwrap().to_owned(),
        }
    }

    /// The person's code of the next step; one that was not used yet.
    pub fn next_code(&self, person: &Person) -> String {
        self.clock.advance(Duration::from_secs(30));
        one_time_code(&person.totp_uri, self.clock.now())
    }

    /// The first owner.
    pub async fn owner(&self) -> Person {
        let code = sallyport_control::authn::first_owner_code(&self.control)
            .await
            .unwrap()
            .unwrap();
        self.enrol("olga", code.expose_secret()).await
    }

    /// Another person.
    pub async fn person(
        &self,
        owner: &Person,
        name: &str,
        groups: &[&str],
        roles: &[&str],
    ) -> Person {
        let body = json!({ "name": name, "groups": groups, "admin_roles": roles });
        let created = self.ok(owner, "POST", "/v1/people", Some(body)).await;
        self.enrol(name, created["code"].as_str().unwrap()).await
    }

    /// A target `web-1` with an account `root` whose certificates our authority signs.
    pub async fn target(&self, owner: &Person, sensitivity: &str) {
        let target = json!({
            "name": "web-1", "protocol": "ssh", "address": "127.0.0.1:22", "sensitivity": sensitivity,
            "pins_first_host_key": true,
        });
        self.ok(owner, "POST", "/v1/targets", Some(target)).await;
        let account = json!({ "target": "web-1", "name": "root", "engine": "ssh_ca" });
        self.ok(owner, "POST", "/v1/accounts", Some(account)).await;
    }
}

/// The one-time code of an `otpauth://` URI at `now`.
pub fn one_time_code(uri: &str, now: Timestamp) -> String {
    let totp = totp_rs::Totp::from_url(uri).unwrap();
    totp.generate(now.unix_s()).to_string()
}
